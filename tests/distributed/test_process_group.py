"""Several workers as real processes on loopback, and what happens when one is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic
from support import paths
from support import steps as train_steps
from support.processes import environment_of, left_over, listeners, wait_for

from xenon_mx.commands import launch
from xenon_mx.data import record_iter
from xenon_mx.distributed import cluster, process_group, watchdog
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


def run_workers(count, *command):
    """Run a command as several workers; return the exit status and standard error."""
    done = subprocess.run(
        [PROGRAMS / "xenon-launch", "-n", str(count), "--", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def steps(packed, out, model, count, batch, epochs):
    """Train with `count` workers by steps.py; return the params."""
    status, stderr = run_workers(
        count,
        sys.executable,
        paths.SUPPORT / "steps.py",
        packed.folder,
        out,
        model,
        batch,
        epochs,
    )
    assert status == 0, stderr
    return weight_files.read(out)


def single(packed, out, monkeypatch):
    """Train as `steps` does, within this process, as a worker without others."""
    monkeypatch.setattr(record_iter, "training_batches", None)  # restored at the end
    monkeypatch.setattr(process_group, "join", lambda _: process_group.ProcessGroup())
    train_steps.main(str(packed.folder), str(out), "plain", "8", "3")
    return weight_files.read(out)


def in_order(folder, order):
    """Pack the same 32 images in another order."""
    pixels, labels = synthetic.labelled(32)
    train = (pixels[order], [labels[i] for i in order])
    splits = {"train": train, "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits, types=("XR_A",))


def test_two_workers_with_half_batches_take_the_steps_of_one(tmp_path, monkeypatch):
    """Half of each batch of the single worker lies in the part of either worker."""
    whole = np.arange(32)
    halves = whole.reshape(4, 2, 4).transpose(1, 0, 2).ravel()
    one = in_order(tmp_path / "p1", whole)
    two = in_order(tmp_path / "p2", halves)
    one = single(one, tmp_path / "1", monkeypatch)
    two = steps(two, tmp_path / "2", "plain", 2, 4, 3)
    assert one["rate"] == two["rate"] == pytest.approx(1e-4)  # one plateau
    for key, array in one.items():
        np.testing.assert_allclose(two[key], array, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_with_batchnorm_two_workers_normalise_by_their_own_half_batches(tmp_path):
    """After one step, the first layer's running means agree and its weights differ."""
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
    status, stderr = run_workers(2, *flags(packed, tmp_path / "a", "--epochs", "3"))
    assert status == 0, stderr
    ranks = dict(re.findall(r"^\[worker (\d)\] rank (\d) of 2$", stderr, re.MULTILINE))
    assert sorted(ranks) == sorted(ranks.values()) == ["0", "1"]
    status, stderr = run_workers(2, *flags(packed, tmp_path / "b", "--epochs", "1"))
    assert status == 0, stderr
    again = (PROGRAMS / "xenon-train", packed.folder, tmp_path / "b", "--resume")
    status, stderr = run_workers(2, *again, "--epochs", "3")
    assert status == 0, stderr
    whole, parts = (Run.open(tmp_path / name).members() for name in "ab")
    # Workers are summed in any order; with two, the sums are the same.
    assert [m.loss for m in whole] == [m.loss for m in parts]
    assert [m.sha256 for m in whole] == [m.sha256 for m in parts]


@pytest.mark.slow
def test_an_error_of_one_training_ends_all_with_its_status(packed, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("")
    status, stderr = run_workers(2, *flags(packed, tmp_path / "run"))
    assert status == 1
    assert re.search(r"^\[worker \d\] error: .* is not empty", stderr, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_launch_ends_with_all_its_processes(packed, tmp_path, number):
    """After SIGKILL to a worker, or SIGTERM to the launcher."""
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
        stderr = process.stderr.read()
    expected = {signal.SIGTERM: (143,), signal.SIGKILL: (1, 137)}[number]
    assert process.returncode in expected, stderr
    (line,) = [line for line in stderr.splitlines() if "continue with" in line]
    words = ["xenon-launch -n 2 --", PROGRAMS / "xenon-train", packed.folder]
    words += [tmp_path / "run", "--resume"]
    assert line.endswith(f"; continue with: {' '.join(map(str, words))}")
    assert left_over(f"MARK={tmp_path}") == []


def worker_processes(run):
    """Return the process ids of the workers that train a run."""
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


def shared_environment(port):
    """Return the environment that processes started by hand have in common."""
    return {
        **os.environ,
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "2",
        "DMLC_INTERFACE": "lo",
    }


SERVER = (sys.executable, "-m", "xenon_mx.distributed.server")


@contextlib.contextmanager
def by_hand(worker, server=SERVER, stderr=subprocess.PIPE, count=2):
    """Run scheduler, server and workers as in the README; yield the processes."""
    with launch._reserve_port() as port:  # other tests launch at the same time
        environment = {**shared_environment(port), "DMLC_NUM_WORKER": str(count)}
        yield from _run_roles(environment, worker, server, stderr, count)


def _run_roles(environment, worker, server, stderr, count):
    roles = [("scheduler", server), ("server", server), *[("worker", worker)] * count]
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


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_trainings_started_by_hand_do_not_wait_for_a_lost_one(packed, tmp_path, lost):
    with by_hand(flags(packed, tmp_path / "run", "--epochs", "100000")) as processes:
        workers = processes[2:]
        while not (tmp_path / "run" / "last" / "state.json").exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        listening = listeners([process.pid for process in processes])
        assert listening
        assert {address for address, _ in listening} == {"127.0.0.1"}
        workers[lost].kill()
        other = workers[1 - lost]
        stderr = other.communicate(timeout=150)[1]
        assert other.returncode == 1
        assert re.search(r"error: .* is lost.*--resume$", stderr.strip())


# Joins the group, writes its process id to a file, and all-reduces for ever.
ENDLESS = """
import os, sys
import numpy as np
from xenon_mx.distributed import process_group
with process_group.join("dist_sync") as group:
    open(f"{sys.argv[1]}/{group.rank}", "w").write(str(os.getpid()))
    while True:
        group.all_reduce("x", np.zeros(1))
"""


def wait_until_joined(folder, count):
    """Wait until all workers have joined; return their process ids by rank."""
    files = [folder / str(rank) for rank in range(count)]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]


def test_workers_started_by_hand_do_not_wait_for_a_lost_one(tmp_path):
    with by_hand((sys.executable, "-c", ENDLESS, tmp_path)) as processes:
        pids = wait_until_joined(tmp_path, 2)
        listening = listeners([process.pid for process in processes])
        assert listening
        assert {address for address, _ in listening} == {"127.0.0.1"}
        os.kill(pids[1], signal.SIGKILL)
        (other,) = (process for process in processes if process.pid == pids[0])
        stderr = other.communicate(timeout=150)[1]
        assert other.returncode == 1
        assert re.search(r"error: .* is lost.*--resume$", stderr.strip())


@contextlib.contextmanager
def full_pipe():
    """Yield a pipe that is full and not read."""
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
def closed_pipe():
    """Yield a pipe whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextlib.contextmanager
def full_disk():
    """Yield a file to which every write fails with ENOSPC."""
    with open("/dev/full", "w") as full:
        yield full


@pytest.mark.slow
@pytest.mark.parametrize("stderr", [full_pipe, closed_pipe, full_disk])
def test_a_worker_that_cannot_print_does_not_wait_for_a_lost_one(tmp_path, stderr):
    worker = (sys.executable, "-c", ENDLESS, tmp_path)
    with stderr() as log, by_hand(worker, stderr=log) as processes:
        pids = wait_until_joined(tmp_path, 2)
        os.kill(pids[0], signal.SIGKILL)
        (other,) = (process for process in processes if process.pid == pids[1])
        assert other.wait(timeout=150) == 1


def test_exit_does_not_wait_for_a_reader_of_the_message():
    code = "from xenon_mx.distributed.watchdog import _exit; _exit('lost', 1)"
    with full_pipe() as log:
        done = subprocess.run([sys.executable, "-c", code], stderr=log, timeout=150)
    assert done.returncode == 1


@pytest.mark.slow
def test_a_signal_ends_a_worker_that_waits_for_a_lost_server(tmp_path):
    """Its main thread is in an MXNet call, where Python runs no signal handlers."""
    worker = (sys.executable, "-c", ENDLESS, tmp_path)
    with by_hand(worker) as processes:
        pids = wait_until_joined(tmp_path, 2)
        processes[1].kill()
        time.sleep(1)
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        for process in processes[2:]:
            stderr = process.communicate(timeout=150)[1]
            assert process.returncode == 130
            assert "SIGINT while MXNet was waiting" in stderr
            assert "lost" not in stderr


@pytest.mark.slow
def test_a_signal_ends_a_worker_that_waits_for_others_to_join(tmp_path):
    with by_hand((sys.executable, "-c", ENDLESS, tmp_path)) as processes:
        processes[3].kill()
        wait_for(lambda: listeners([processes[2].pid]))
        time.sleep(1)  # MXNet listens and waits for the other worker
        processes[2].send_signal(signal.SIGINT)
        assert processes[2].wait(timeout=150) == 130
    assert not list(tmp_path.iterdir())


# Sends the servers commands that MXNet's own server would unpickle, then continues;
# with "fail", until the worker of rank 1 fails.
ATTACK = """
import pickle, sys
import numpy as np
from xenon_mx.distributed import process_group
class Evil:
    def __reduce__(self):
        return open, (sys.argv[1], "w")
def main():
    with process_group.join("dist_sync") as group:
        body = pickle.dumps(Evil(), 0).decode()
        assert sys.argv[1] in body
        for command in (0, 6, 1000):
            group._kvstore._send_command_to_servers(command, body)
        assert group.all_reduce("x", np.ones(3)).tolist() == [group.num_workers] * 3
        while "fail" in sys.argv:
            if group.rank == 1:
                raise SystemExit("error: of rank 1")
            group.all_reduce("y", np.ones(3))
main()  # which frees the KVStore as xenon-train does: MXNet waits there for the others
"""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """Launch workers that attack the server, one of which fails.

    Returns:
        What the attack would write, the exit status and standard error.
    """
    ran = tmp_path_factory.mktemp("attack") / "ran"
    return ran, *run_workers(2, sys.executable, "-c", ATTACK, ran, "fail")


def test_a_launched_server_unpickles_nothing(attacked):
    ran, _, stderr = attacked
    assert not ran.exists()
    assert "[server 0] warning: refused command 0" in stderr


def test_an_error_of_one_worker_ends_all_with_its_status(attacked):
    _, status, stderr = attacked
    assert status == 1
    assert re.search(r"^\[worker \d\] error: of rank 1$", stderr, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [SERVER, (sys.executable, "-c", "from xenon_mx.runtime.mxnet import mx")],
    ids=["of the README", "of xenon 0.1.0"],
)
def test_a_server_started_by_hand_unpickles_nothing(tmp_path, command):
    attack = (sys.executable, "-c", ATTACK, tmp_path / "ran")
    with by_hand(attack, command, count=1) as (scheduler, server, worker):
        stderr = worker.communicate(timeout=150)[1]
        assert worker.returncode == 0, stderr
        stderr = server.communicate(timeout=150)[1]
        assert (server.returncode, scheduler.wait(timeout=150)) == (0, 0)
    assert not (tmp_path / "ran").exists()
    assert "refused command 0" in stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "DMLC_ROLE is not set: set it to scheduler or server"),
        ({"DMLC_ROLE": "worker"}, "DMLC_ROLE is worker: set it to scheduler or server"),
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
def test_a_role_that_cannot_run_is_refused_in_a_line(variables, message):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DMLC_")}
    done = subprocess.run(
        SERVER, env={**plain, **variables}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def send_over_zeromq(port, body):
    """Send bytes in a ZeroMQ message (ZMTP 3.0), as MXNet's processes connect."""

    def frame(content, flags):
        return bytes([flags, len(content)]) + content

    def prop(name, value):
        return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value

    mechanism = b"\x03\x00" + b"NULL".ljust(20, b"\0")
    greeting = b"\xff" + bytes(8) + b"\x7f" + mechanism + bytes(32)
    # No node of MXNet has the number 99: they are 1, 8, 9, 10, ...
    ready = b"\x05READY" + prop(b"Socket-Type", b"DEALER") + prop(b"Identity", b"ps99")
    with socket.create_connection(("127.0.0.1", port), 60) as stream:
        stream.sendall(greeting)
        assert len(watchdog._receive(stream, 64)) == 64
        stream.sendall(frame(ready, 4))  # 4: a command
        assert stream.recv(1)
        stream.sendall(frame(body, 0))
        with contextlib.suppress(OSError):
            while stream.recv(4096):
                pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "name"), [("scheduler", "the scheduler"), ("server", "server 0")]
)
def test_foreign_traffic_that_ends_a_server_ends_the_launch_with_an_error(
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
        wait_until_joined(tmp_path, 2)
        (victim,) = (
            int(pid)
            for pid in left_over(f"MARK={tmp_path}")
            if f"DMLC_ROLE={role}" in environment_of(pid)
        )
        ((_, port),) = listeners([victim])
        send_over_zeromq(port, b"\xff" * 40)
        stderr = process.communicate(timeout=150)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 134
    assert f"error: {name} was killed by SIGABRT, as it is by traffic" in stderr
    assert left_over(f"MARK={tmp_path}") == []


SSHD = Path("/usr/sbin/sshd")


@pytest.fixture
def ssh_host(tmp_path, monkeypatch):
    """Run an sshd on this machine; return a host file that names it."""
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
def test_an_ended_launcher_leaves_no_process_behind_over_ssh(
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


def test_a_single_worker_with_dist_sync_is_told_how_to_start_several(monkeypatch):
    for name in cluster.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="xenon-launch -n 2 -- xenon-train"):
        process_group.join("dist_sync")


def test_one_of_several_workers_needs_a_kvstore(monkeypatch):
    monkeypatch.setenv("DMLC_NUM_WORKER", "2")
    with pytest.raises(ConfigError, match="one of 2 workers.*--kvstore dist_sync"):
        process_group.join(None)


def test_the_group_of_a_single_worker_changes_no_values():
    group = process_group.join(None)
    assert (group.rank, group.num_workers) == (0, 1)
    values = np.array([0.1, 1e300])
    assert group.all_reduce("x", values) is values
    assert group.broadcast({"a": None}) == {"a": None}


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
def test_all_workers_take_as_many_steps_each_on_its_own_part(tmp_path, num_workers):
    pixels, labels = synthetic.labelled(22)
    data = synthetic.pack(tmp_path / "p", {"train": (pixels, labels)}, views=1)
    split = data.split("train")
    number = record_iter.steps_per_epoch(split, 2, num_workers)
    studies = []
    for rank in range(num_workers):
        part = record_iter.Part(rank, num_workers)
        batches = list(record_iter.training_batches(split, 2, 0, 1, 1, part))
        assert len(batches) == number
        studies.append({study for b in batches for study in b.labels[:, 2]})
    for a in range(num_workers):
        for b in range(a):
            assert not studies[a] & studies[b]


def test_too_few_images_for_so_many_workers_are_refused(tmp_path):
    data = synthetic.pack(tmp_path / "p", {"train": synthetic.labelled(10)})
    with pytest.raises(XenonError, match="10 images are too few for 4 workers"):
        record_iter.steps_per_epoch(data.split("train"), 2, 4)


def test_a_message_that_arrives_in_pieces_is_received_whole():
    """A socket with a timeout returns what is there, even where all is asked for."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.settimeout(30)

        def send():
            for byte in b"token":
                peer.sendall(bytes([byte]))
                time.sleep(0.02)

        sender = threading.Thread(target=send)
        sender.start()
        assert watchdog._receive(ours, 5) == b"token"
        sender.join()
        peer.close()
        assert watchdog._receive(ours, 1) == b""
