"""Several workers, real processes on loopback, and what becomes of a lost one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small

from xenon_mx import arrays, pipeline, workers
from xenon_mx.checkpoints import Run
from xenon_mx.errors import ConfigError, XenonError

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "packed"
    splits = {"train": small.labelled(32), "valid": small.labelled(8, seed=9)}
    return small.pack(folder, splits)


def launch(count, *command):
    """Run a command as several workers; give its exit status and what was said."""
    done = subprocess.run(
        [PROGRAMS / "xenon-launch", "-n", str(count), "--", *map(str, command)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def steps(packed, out, model, count, batch, epochs):
    """The params after training with a number of workers."""
    status, said = launch(
        count, sys.executable, "steps.py", packed.folder, out, model, batch, epochs
    )
    assert status == 0, said
    return arrays.read(out)


def in_order(folder, order):
    """Pack the same 32 images in another order."""
    pixels, labels = small.labelled(32)
    train = (pixels[order], [labels[i] for i in order])
    splits = {"train": train, "valid": small.labelled(8, seed=9)}
    return small.pack(folder, splits, types=("XR_A",))


def test_two_workers_with_half_batches_take_the_steps_of_one(tmp_path):
    """Each common batch is cut in two, and each half lies in one worker's part."""
    whole = np.arange(32)
    halves = whole.reshape(4, 2, 4).transpose(1, 0, 2).ravel()
    one = in_order(tmp_path / "p1", whole)
    two = in_order(tmp_path / "p2", halves)
    one = steps(one, tmp_path / "1", "plain", 1, 8, 3)
    two = steps(two, tmp_path / "2", "plain", 2, 4, 3)
    assert one["rate"] == two["rate"] == pytest.approx(1e-4)  # a plateau, once
    for key, array in one.items():
        np.testing.assert_allclose(two[key], array, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_with_batchnorm_two_workers_normalise_by_their_own_half_batches(tmp_path):
    """In one step the first layer's running means agree, and the weights do not."""
    pixels, labels = small.labelled(8)
    valid = (pixels[:2], labels[:2])
    packed = small.pack(tmp_path / "p", {"train": (pixels, labels), "valid": valid})
    one = steps(packed, tmp_path / "1", "densenet121", 1, 8, 1)
    two = steps(packed, tmp_path / "2", "densenet121", 2, 4, 1)
    key = "features.1.running_mean"
    np.testing.assert_allclose(two[key], one[key], rtol=1e-3, atol=1e-6)
    assert (one["features.0.weight"] != two["features.0.weight"]).any()


def flags(packed, run, *more):
    return [
        *(PROGRAMS / "xenon-train", packed.folder, run, "--model", "mobilenet0.25"),
        *("--no-pretrained", "--ctx", "cpu()", "--kvstore", "dist_sync"),
        *("--batch-size", "4", "--lr", "1e-3", *more),
    ]


@pytest.mark.slow
def test_workers_train_save_and_resume_as_one_run(packed, tmp_path):
    status, said = launch(2, *flags(packed, tmp_path / "a", "--epochs", "3"))
    assert status == 0, said
    assert {"[rank 0] rank 0 of 2", "[rank 1] rank 1 of 2"} <= set(said.splitlines())
    status, said = launch(2, *flags(packed, tmp_path / "b", "--epochs", "1"))
    assert status == 0, said
    again = (PROGRAMS / "xenon-train", packed.folder, tmp_path / "b", "--resume")
    status, said = launch(2, *again, "--epochs", "3")
    assert status == 0, said
    whole, parts = (Run.open(tmp_path / name).members() for name in "ab")
    # Sums over workers come in any order, of two they are the same.
    assert [m.loss for m in whole] == [m.loss for m in parts]
    assert [m.sha256 for m in whole] == [m.sha256 for m in parts]


def test_an_error_of_one_worker_ends_all_with_its_status(packed, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("")
    status, said = launch(2, *flags(packed, tmp_path / "run"))
    assert status == 1
    assert "[rank 0] error: " in said
    assert "is not empty" in said


def left_over(mark):
    """The processes whose command line or environment names something."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                text = (process / "cmdline").read_bytes()
                text += (process / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in text and int(process.name) != os.getpid():
                found.append(process.name)
    return found


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_launch_ends_with_all_its_processes(packed, tmp_path, number):
    """By SIGKILL of a worker, and by SIGTERM of the launcher itself."""
    command = [PROGRAMS / "xenon-launch", "-n", "2", "--"]
    command += flags(packed, tmp_path / "run", "--epochs", "100000")
    environment = {**os.environ, "MARK": str(tmp_path)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr:
            if re.search(r"epoch 1/", line):
                break
        assert len(left_over(f"MARK={tmp_path}")) >= 5
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            (victim, *_) = worker_processes(tmp_path / "run")
            os.kill(victim, number)
        said = process.stderr.read()
    expected = {signal.SIGTERM: (143,), signal.SIGKILL: (1, 137)}[number]
    assert process.returncode in expected, said
    assert left_over(f"MARK={tmp_path}") == []


def worker_processes(run):
    """The process ids of the workers that train a run."""
    listed = subprocess.run(
        ["pgrep", "-f", f"xenon-train .*{run} .*--kvstore"],
        capture_output=True,
        text=True,
    )
    pids = [int(pid) for pid in listed.stdout.split()]
    return [
        pid
        for pid in pids
        if b"DMLC_ROLE=worker" in Path(f"/proc/{pid}/environ").read_bytes()
    ]


def by_hand(packed, run):
    """Start scheduler, server and two workers as the README says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "2",
        "DMLC_INTERFACE": "lo",
    }
    serve = [sys.executable, "-c", "from xenon_mx.engine import mx"]
    train = list(map(str, flags(packed, run, "--epochs", "100000")))
    return [
        subprocess.Popen(
            command,
            env={**shared, "DMLC_ROLE": role},
            stderr=subprocess.PIPE,
            text=True,
        )
        for role, command in (
            ("scheduler", serve),
            ("server", serve),
            ("worker", train),
            ("worker", train),
        )
    ]


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_workers_started_by_hand_do_not_wait_for_a_lost_one(packed, tmp_path, lost):
    processes = by_hand(packed, tmp_path / "run")
    both = processes[2:]
    try:
        while not (tmp_path / "run" / "last" / "state.json").exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        listening = listeners([process.pid for process in processes])
        assert listening
        assert {address for address, _ in listening} == {"127.0.0.1"}
        both[lost].kill()
        other = both[1 - lost]
        said = other.communicate(timeout=60)[1]
        assert other.returncode == 1
        assert re.search(r"error: .* is lost.*--resume$", said.strip())
    finally:
        for process in processes:
            process.kill()
            process.communicate()


SSHD = Path("/usr/sbin/sshd")


@pytest.fixture
def ssh_host(tmp_path, monkeypatch):
    """A host that is this machine, behind an sshd of our own; give its host file."""
    key = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "authorized").write_bytes(key.with_suffix(".pub").read_bytes())
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {key}\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nPidFile none\nUsePAM no\n"
    )
    (tmp_path / "ssh_config").write_text(
        f"Host here\n HostName 127.0.0.1\n Port {port}\n IdentityFile {key}\n"
        f" StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen([SSHD, "-D", "-f", tmp_path / "sshd_config"])
    time.sleep(1)
    (tmp_path / "hosts").write_text("here  # this machine\n")
    yield tmp_path / "hosts"
    daemon.terminate()
    daemon.wait()


@pytest.mark.slow
@pytest.mark.skipif(
    not SSHD.exists(), reason="needs sshd: apt-get install openssh-server"
)
def test_workers_and_servers_start_over_ssh_and_none_stays_behind(
    packed, tmp_path, ssh_host
):
    command = [PROGRAMS / "xenon-launch", "-n", "2", "--hosts", ssh_host]
    command += ["--address", "127.0.0.1", "--interface", "lo", "--"]
    done = subprocess.run(
        [*command, *flags(packed, tmp_path / "run", "--epochs", "2")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(Run.open(tmp_path / "run").members()) == 2
    endless = [*command, *flags(packed, tmp_path / "endless", "--epochs", "100000")]
    with subprocess.Popen(endless, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 1/" in line:
                break
        process.terminate()
        process.stderr.read()
    assert process.returncode == 143
    time.sleep(1)
    assert worker_processes(tmp_path / "endless") == []


def listeners(pids):
    """(address, port) of every TCP socket on which some processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
            address, port = fields[1].split(":")
            raw = bytes.fromhex(address)[::-1]
            found.append((socket.inet_ntoa(raw), int(port, 16)))
    return found


def test_without_the_others_dist_sync_says_how_to_start_them(monkeypatch):
    for name in workers._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="xenon-launch -n 2 -- xenon-train"):
        workers.join("dist_sync")


def test_one_of_several_workers_does_not_train_alone(monkeypatch):
    monkeypatch.setenv("DMLC_NUM_WORKER", "2")
    with pytest.raises(ConfigError, match="one of 2 workers.*--kvstore dist_sync"):
        workers.join(None)


def test_alone_everything_stays_as_it_is():
    alone = workers.join(None)
    assert (alone.rank, alone.count) == (0, 1)
    values = np.array([0.1, 1e300])
    assert alone.total("x", values) is values
    assert alone.from_first({"a": None}) == {"a": None}


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_every_worker_takes_as_many_steps_and_sees_its_own_part(tmp_path, parts):
    pixels, labels = small.labelled(22)
    data = small.pack(tmp_path / "p", {"train": (pixels, labels)}, views=1)
    split = data.split("train")
    number = pipeline.steps(split, 2, parts)
    seen = []
    for rank in range(parts):
        part = pipeline.Part(rank, parts)
        batches = list(pipeline.training_batches(split, 2, 0, 1, 1, part))
        assert len(batches) == number
        seen.append({study for b in batches for study in b.labels[:, 2]})
    for a in range(parts):
        for b in range(a):
            assert not seen[a] & seen[b]


def test_too_few_images_for_so_many_workers_are_refused(tmp_path):
    data = small.pack(tmp_path / "p", {"train": small.labelled(10)})
    with pytest.raises(XenonError, match="10 images are too few for 4 workers"):
        pipeline.steps(data.split("train"), 2, 4)
