"""Several workers, real processes on loopback, and what becomes of a lost one."""

from __future__ import annotations

import contextlib
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
import synthetic
from support import paths
from support.processes import environment_of, left_over, listeners, wait_for

from xenon_mx.commands import launch as launching
from xenon_mx.data import record_iter
from xenon_mx.distributed import cluster, process_group
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import weight_files
from xenon_mx.runs.run_folder import Run

PROGRAMS = Path(sys.executable).parent
PLACE = {
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9",
    "DMLC_NUM_WORKER": "1",
    "DMLC_NUM_SERVER": "1",
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "packed"
    splits = {"train": synthetic.labelled(32), "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits)


def launch(count, *command):
    """Run a command as several workers; give its exit status and what was said."""
    done = subprocess.run(
        [PROGRAMS / "xenon-launch", "-n", str(count), "--", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def steps(packed, out, model, count, batch, epochs):
    """The params after training with a number of workers."""
    status, said = launch(
        count,
        sys.executable,
        paths.SUPPORT / "steps.py",
        packed.folder,
        out,
        model,
        batch,
        epochs,
    )
    assert status == 0, said
    return weight_files.read(out)


def in_order(folder, order):
    """Pack the same 32 images in another order."""
    pixels, labels = synthetic.labelled(32)
    train = (pixels[order], [labels[i] for i in order])
    splits = {"train": train, "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits, types=("XR_A",))


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
    pixels, labels = synthetic.labelled(8)
    valid = (pixels[:2], labels[:2])
    packed = synthetic.pack(tmp_path / "p", {"train": (pixels, labels), "valid": valid})
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


def shared(port):
    """The variables that processes have in common when they are started by hand."""
    return {
        **os.environ,
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "2",
        "DMLC_INTERFACE": "lo",
    }


SERVE = (sys.executable, "-m", "xenon_mx.distributed.server")


@contextlib.contextmanager
def by_hand(work, serve=SERVE, stderr=subprocess.PIPE, count=2):
    """Start scheduler, server and workers as the README says; end them at last."""
    with launching._reserved_port() as port:  # tests beside this one launch, too
        yield from _by_hand(port, work, serve, stderr, count)


def _by_hand(port, work, serve, stderr, count):
    environment = {**shared(port), "DMLC_NUM_WORKER": str(count)}
    roles = [("scheduler", serve), ("server", serve), *[("worker", work)] * count]
    processes = [
        subprocess.Popen(
            list(map(str, command)),
            env={**environment, "DMLC_ROLE": role},
            stderr=stderr if role == "worker" else subprocess.PIPE,
            text=True,
        )
        for role, command in roles
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_workers_started_by_hand_do_not_wait_for_a_lost_one(packed, tmp_path, lost):
    with by_hand(flags(packed, tmp_path / "run", "--epochs", "100000")) as processes:
        both = processes[2:]
        while not (tmp_path / "run" / "last" / "state.json").exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        listening = listeners([process.pid for process in processes])
        assert listening
        assert {address for address, _ in listening} == {"127.0.0.1"}
        both[lost].kill()
        other = both[1 - lost]
        said = other.communicate(timeout=150)[1]
        assert other.returncode == 1
        assert re.search(r"error: .* is lost.*--resume$", said.strip())


# Joins the others, says so by a file, and adds up with them for ever.
ENDLESS = """
import os, sys
from xenon_mx.distributed import process_group as workers
with workers.join("dist_sync") as group:
    open(f"{sys.argv[1]}/{group.rank}", "w").write(str(os.getpid()))
    while True:
        group.all_reduce("x", workers.np.zeros(1))
"""


def joined(folder, count):
    """Wait until all workers are there; give their process ids."""
    files = [folder / str(rank) for rank in range(count)]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]


@contextlib.contextmanager
def nobody_reads():
    """A full pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    yield writer
    os.close(writer)
    os.close(reader)


@contextlib.contextmanager
def reader_gone():
    """A pipe whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextlib.contextmanager
def full_disk():
    """What every write to fails with ENOSPC."""
    with open("/dev/full", "w") as full:
        yield full


@pytest.mark.slow
@pytest.mark.parametrize("stderr", [nobody_reads, reader_gone, full_disk])
def test_a_worker_that_cannot_say_so_does_not_wait_for_a_lost_one(tmp_path, stderr):
    work = (sys.executable, "-c", ENDLESS, tmp_path)
    with stderr() as log, by_hand(work, stderr=log) as processes:
        pids = joined(tmp_path, 2)
        os.kill(pids[0], signal.SIGKILL)
        (other,) = (each for each in processes if each.pid == pids[1])
        assert other.wait(timeout=150) == 1


def test_ending_does_not_wait_for_a_reader():
    """A last sentence into a full pipe; whatever it says, it ends."""
    code = "from xenon_mx.distributed.process_group import _end; _end('lost', 1)"
    with nobody_reads() as log:
        done = subprocess.run([sys.executable, "-c", code], stderr=log, timeout=150)
    assert done.returncode == 1


@pytest.mark.slow
def test_a_worker_that_waits_for_a_lost_server_ends_when_it_is_told(tmp_path):
    """Its main thread is in a call of MXNet's, where no handler of Python's is run."""
    work = (sys.executable, "-c", ENDLESS, tmp_path)
    with by_hand(work) as processes:
        pids = joined(tmp_path, 2)
        processes[1].kill()
        time.sleep(1)
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        for process in processes[2:]:
            said = process.communicate(timeout=150)[1]
            assert process.returncode == 130
            assert "SIGINT while MXNet was waiting" in said
            assert "lost" not in said


@pytest.mark.slow
def test_a_worker_that_waits_for_others_to_join_ends_when_it_is_told(tmp_path):
    with by_hand((sys.executable, "-c", ENDLESS, tmp_path)) as processes:
        processes[3].kill()
        wait_for(lambda: listeners([processes[2].pid]))
        time.sleep(1)  # MXNet listens, and waits for the other
        processes[2].send_signal(signal.SIGINT)
        assert processes[2].wait(timeout=150) == 130
    assert not list(tmp_path.iterdir())


# Sends its servers a command that MXNet's own would unpickle, then trains on.
ATTACK = """
import pickle, sys
from xenon_mx.distributed import process_group as workers
class Evil:
    def __reduce__(self):
        return open, (sys.argv[1], "w")
group = workers.join("dist_sync")
with group:
    body = pickle.dumps(Evil(), 0).decode()
    assert sys.argv[1] in body
    for command in (0, 6, 1000):
        group._kvstore._send_command_to_servers(command, body)
    assert group.all_reduce("x", workers.np.ones(3)).tolist() == [1, 1, 1]
"""


def test_a_launched_server_unpickles_nothing(tmp_path):
    status, said = launch(1, sys.executable, "-c", ATTACK, tmp_path / "ran")
    assert status == 0, said
    assert not (tmp_path / "ran").exists()
    assert "[server 0] warning: refused command 0" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "serve",
    [SERVE, (sys.executable, "-c", "from xenon_mx.runtime.mxnet import mx")],
    ids=["of the README", "of xenon 0.1.0"],
)
def test_a_server_started_by_hand_unpickles_nothing(tmp_path, serve):
    work = (sys.executable, "-c", ATTACK, tmp_path / "ran")
    with by_hand(work, serve, count=1) as (scheduler, server, worker):
        said = worker.communicate(timeout=150)[1]
        assert worker.returncode == 0, said
        said = server.communicate(timeout=150)[1]
        assert (server.returncode, scheduler.wait(timeout=150)) == (0, 0)
    assert not (tmp_path / "ran").exists()
    assert "refused command 0" in said


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "DMLC_ROLE is not set: say scheduler or server"),
        ({"DMLC_ROLE": "worker"}, "DMLC_ROLE is worker: say scheduler or server"),
        ({"DMLC_ROLE": "server"}, "set DMLC_PS_ROOT_URI, DMLC_PS_ROOT_PORT"),
        ({"DMLC_ROLE": "server", **PLACE, "DMLC_INTERFACE": "nope"}, "INTERFACE nope"),
        ({"DMLC_ROLE": "server", **PLACE, "DMLC_NUM_SERVER": "x"}, "must be numbers"),
        pytest.param(
            {"DMLC_ROLE": "scheduler", **PLACE, "DMLC_PS_ROOT_URI": "192.0.2.1"},
            "the scheduler at 192.0.2.1, port 9: bind failed",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_role_that_cannot_be_played_is_refused_in_a_line(variables, sentence):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DMLC_")}
    done = subprocess.run(
        SERVE, env={**plain, **variables}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


def speak(port, body):
    """Send what is not MXNet's over ZeroMQ (ZMTP 3.0), as MXNet's processes do."""

    def framed(content, kind):
        return bytes([kind, len(content)]) + content

    def named(name, value):
        return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value

    mechanism = b"\x03\x00" + b"NULL".ljust(20, b"\0")
    greeting = b"\xff" + bytes(8) + b"\x7f" + mechanism + bytes(32)
    # 99 is nobody's: MXNet's nodes are 1, 8, 9, 10, ...
    ready = (
        b"\x05READY" + named(b"Socket-Type", b"DEALER") + named(b"Identity", b"ps99")
    )
    with socket.create_connection(("127.0.0.1", port), 60) as stream:
        stream.sendall(greeting)
        assert len(stream.recv(64, socket.MSG_WAITALL)) == 64
        stream.sendall(framed(ready, 4))  # 4: a command
        assert stream.recv(1)
        stream.sendall(framed(body, 0))
        with contextlib.suppress(OSError):
            while stream.recv(4096):
                pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "name"), [("scheduler", "the scheduler"), ("server", "server 0")]
)
def test_strange_bytes_that_end_a_server_end_the_training_with_a_sentence(
    tmp_path, role, name
):
    command = [PROGRAMS / "xenon-launch", "-n", "2", "--"]
    command += [sys.executable, "-c", ENDLESS, tmp_path]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MARK": str(tmp_path)},
    )
    try:
        joined(tmp_path, 2)
        (victim,) = (
            int(pid)
            for pid in left_over(f"MARK={tmp_path}")
            if f"DMLC_ROLE={role}" in environment_of(pid)
        )
        ((_, port),) = listeners([victim])
        speak(port, b"\xff" * 40)
        said = process.communicate(timeout=150)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 134
    assert f"error: {name} was killed by SIGABRT, as it is by traffic" in said
    assert left_over(f"MARK={tmp_path}") == []


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
def test_workers_and_servers_start_over_ssh(packed, tmp_path, ssh_host):
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


@pytest.mark.slow
@pytest.mark.skipif(
    not SSHD.exists(), reason="needs sshd: apt-get install openssh-server"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_is_ended_leaves_nobody_behind_over_ssh(
    packed, tmp_path, ssh_host, number
):
    command = [PROGRAMS / "xenon-launch", "-n", "2", "--hosts", ssh_host]
    command += ["--address", "127.0.0.1", "--interface", "lo", "--"]
    run = tmp_path / "endless"
    endless = [*command, *flags(packed, run, "--epochs", "100000")]
    with subprocess.Popen(endless, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 1/" in line:
                break
        (port, *_) = (
            value
            for pid in worker_processes(run)
            for value in environment_of(pid)
            if value.startswith("DMLC_PS_ROOT_PORT=")
        )
        assert len(left_over(port)) >= 4
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_for(lambda: not left_over(port))


def test_without_the_others_dist_sync_says_how_to_start_them(monkeypatch):
    for name in cluster.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="xenon-launch -n 2 -- xenon-train"):
        process_group.join("dist_sync")


def test_one_of_several_workers_does_not_train_alone(monkeypatch):
    monkeypatch.setenv("DMLC_NUM_WORKER", "2")
    with pytest.raises(ConfigError, match="one of 2 workers.*--kvstore dist_sync"):
        process_group.join(None)


def test_alone_everything_stays_as_it_is():
    alone = process_group.join(None)
    assert (alone.rank, alone.num_workers) == (0, 1)
    values = np.array([0.1, 1e300])
    assert alone.all_reduce("x", values) is values
    assert alone.broadcast({"a": None}) == {"a": None}


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_every_worker_takes_as_many_steps_and_sees_its_own_part(tmp_path, parts):
    pixels, labels = synthetic.labelled(22)
    data = synthetic.pack(tmp_path / "p", {"train": (pixels, labels)}, views=1)
    split = data.split("train")
    number = record_iter.steps_per_epoch(split, 2, parts)
    seen = []
    for rank in range(parts):
        part = record_iter.Part(rank, parts)
        batches = list(record_iter.training_batches(split, 2, 0, 1, 1, part))
        assert len(batches) == number
        seen.append({study for b in batches for study in b.labels[:, 2]})
    for a in range(parts):
        for b in range(a):
            assert not seen[a] & seen[b]


def test_too_few_images_for_so_many_workers_are_refused(tmp_path):
    data = synthetic.pack(tmp_path / "p", {"train": synthetic.labelled(10)})
    with pytest.raises(XenonError, match="10 images are too few for 4 workers"):
        record_iter.steps_per_epoch(data.split("train"), 2, 4)
