"""The container: its build steps, and the REPL that requires a token."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import paths
from support.clean_root import CleanRoot

from xenon_mx import cli

DOCKER = paths.ROOT / "tools" / "docker"
REPL = DOCKER / "repl.py"
CONSTRAINTS = DOCKER / "constraints.txt"
PORT = runpy.run_path(str(REPL))["PORT"]
INSTALLED = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "xenon_mx")
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c29tZXRoaW5nIHJhbmRvbQ==",  # any 16 bytes
}
DEBIAN_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.2"}


def lines_of(file: Path) -> list[str]:
    """List a file's lines, joined where continued, without comments and empty lines."""
    text = file.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def steps() -> list[tuple[str, str]]:
    """List the Dockerfile's instructions as (keyword, arguments)."""
    return [tuple(line.split(None, 1)) for line in lines_of(DOCKER / "Dockerfile")]


def setup_arguments(monkeypatch) -> dict:
    """Return the arguments that setup.py passes to setuptools."""
    arguments: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **kwargs: arguments.update(kwargs))
    runpy.run_path(str(paths.ROOT / "setup.py"))
    return arguments


def docker_commands() -> list[list[str]]:
    """List the docker command lines of the docs."""
    text = (
        (paths.ROOT / "docs" / "deploy.md")
        .read_text(encoding="utf-8")
        .replace("\\\n", " ")
    )
    return [shlex.split(line) for line in re.findall(r"^ *(docker .+)$", text, re.M)]


def test_the_dockerfile_copies_installs_and_leaves_root():
    words = "ARG FROM ARG ARG ARG COPY RUN ENV USER WORKDIR EXPOSE CMD".split()
    assert [word for word, _ in steps()] == words
    by_word = dict(steps())
    assert by_word["COPY"] == ". /usr/src/xenon"
    assert "bash /usr/src/xenon/tools/docker/install.sh" in by_word["RUN"]
    assert by_word["USER"] == "$USER_ID"
    assert ("ARG", "USER_ID=1000") in steps()
    assert by_word["EXPOSE"] == str(PORT) == "3133"
    assert by_word["CMD"] == '["repl", "--ip", "0.0.0.0"]'


def test_the_base_is_pinned_by_date():
    pinned = r"\$\{BASE:-debian:bookworm-\d{8}-slim(@sha256:\w{64})?\}"
    assert re.fullmatch(pinned, dict(steps())["FROM"])


def test_no_secret_is_built_in():
    names = " ".join(rest for word, rest in steps() if word in ("ARG", "ENV"))
    assert not re.search(r"token|password|secret|key", names, re.IGNORECASE)


def test_the_context_is_what_is_installed_and_no_more():
    first, *others = lines_of(paths.ROOT / ".dockerignore")
    assert first == "*"
    included = {line[1:] for line in others if line.startswith("!")}
    assert included == {*INSTALLED, "tools/docker"}
    assert all((paths.ROOT / name).exists() for name in included)
    copied = re.search(r"^for name in (.+); do$", installer(), re.MULTILINE)
    assert copied.group(1).split() == list(INSTALLED)


def installer() -> str:
    return (DOCKER / "install.sh").read_text()


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ({}, "cpu"),
        ({"BASE": ""}, "cpu"),
        ({"DEVICE": "gpu"}, "gpu"),
        ({"BASE": "nvcr.io/nvidia/mxnet:24.06-py3"}, "base"),
        ({"BASE": "debian:bookworm", "DEVICE": "gpu"}, "gpu"),
    ],
)
def test_a_base_of_ones_own_has_the_mxnet_unless_a_device_is_named(arguments, device):
    command = dict(steps())["RUN"].replace("bash /usr", "echo /usr")
    env = {"USER_ID": "1000", **arguments}
    done = subprocess.check_output([shutil.which("bash"), "-c", command], env=env)
    assert done.decode().split()[1:] == [device, "1000"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "DEVICE must be cpu, gpu or base, not ''"),
        (["tpu"], "not 'tpu'"),
        (["cpu", "0"], "not root, not '0'"),
        (["gpu", "me"], "not 'me'"),
    ],
)
def test_the_installer_refuses(arguments, why):
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, DOCKER / "install.sh", *arguments],
        env={"PATH": ""},  # so that it cannot install anything here
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert why in done.stderr


@pytest.mark.parametrize(
    ("device", "has_mxnet", "has_apt", "why"),
    [
        ("base", False, True, "the python3 of BASE has no MXNet: leave BASE out"),
        ("base", True, False, "BASE is not an image of Debian or Ubuntu"),
        ("cpu", True, True, "this image has an MXNet: use it with DEVICE=base"),
        ("gpu", True, True, "this image has an MXNet: use it with DEVICE=base"),
    ],
)
def test_the_installer_refuses_an_image_that_does_not_fit(
    tmp_path, device, has_mxnet, has_apt, why
):
    """Every command but bash's own is a stand-in, so that nothing is installed here."""
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    stand_ins = {"id": "echo 0", "python3": f"exit {0 if has_mxnet else 1}"}
    if has_apt:
        stand_ins["apt-get"] = "echo 'error: apt-get was called' >&2; exit 2"
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [shutil.which("bash"), DOCKER / "install.sh", device],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {why}")


@pytest.mark.slow
def test_the_installers_check_loads_mxnet_and_opencv():
    (code,) = re.findall(r'python -c \\\n +"(.+)"', installer())
    loaded = "; import sys; assert {'mxnet', 'cv2'} <= set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + loaded], check=True)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("libcuda.so.1: cannot open", 0, "(not imported, because there is no driver)"),
        (
            "libgomp.so.1: cannot open",
            1,
            "error: mxnet needs the system's libgomp.so.1",
        ),
    ],
)
def test_only_the_driver_may_be_missing_while_an_image_is_built(
    tmp_path, error, status, said
):
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").write_text(f"raise OSError({error!r})")
    done = subprocess.run(
        [sys.executable, DOCKER / "check_base.py"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{paths.ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_constraints_are_exact_and_fit_setup_py(monkeypatch):
    pinned = {}
    for line in lines_of(CONSTRAINTS):
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
        assert canonicalize_name(name) == name, f"{name}: write it as pip does"
        pinned[name] = version
    arguments = setup_arguments(monkeypatch)
    extras = arguments["extras_require"]
    checked = set()
    (installed,) = re.findall(r"^extras=\$device,([\w,]+)$", installer(), re.M)
    named = [text for extra in installed.split(",") for text in extras[extra]]
    for text in [*arguments["install_requires"], *extras["cpu"], *named]:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(DEBIAN_PYTHON):
            continue
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(pinned[name]), name
        checked.add(name)
    names = {"numpy", "mxnet", "jupyterlab", "pydicom", "onnxruntime", "matplotlib"}
    assert names <= checked
    # setup.py pins the additional packages for GPUs.
    for text in extras["gpu"]:
        requirement = Requirement(text)
        pin = pinned.get(canonicalize_name(requirement.name))
        applies = not requirement.marker or requirement.marker.evaluate(DEBIAN_PYTHON)
        if pin and applies:
            assert requirement.specifier.contains(pin), requirement.name
        elif applies:
            assert str(requirement.specifier).startswith("=="), requirement.name


def test_the_docs_publishes_the_repl_on_this_host_only():
    ports = [c[c.index("-p") + 1] for c in docker_commands() if "-p" in c]
    assert ports == [f"127.0.0.1:{PORT}:{PORT}"]


def test_the_docs_trains_in_a_container_with_a_command_that_parses():
    trainings = [c for c in docker_commands() if "xenon-train" in c]
    assert len(trainings) == 2  # in xenon's image, and in that of --build-arg BASE
    for words in trainings:
        arguments = words[words.index("xenon-train") + 1 :]
        assert cli.COMMANDS["train"].make_context("xenon-train", arguments).params


@pytest.mark.parametrize(
    ("arguments", "status", "output"),
    [
        (["--port", "99999"], 2, "invalid port value: '99999'"),
        (["--port", "0"], 2, "invalid port value: '0'"),
        (["--ip", "192.0.2.1"], 1, "error: --ip 192.0.2.1: "),  # of documentation only
        ([], 1, "pip install '.[repl]' in a checkout of xenon"),
    ],
)
def test_the_repl_refuses_what_it_cannot_serve_in_one_line(arguments, status, output):
    """Jupyter is not needed for this, and is hidden."""
    code = """
import runpy, sys
sys.modules["jupyter_server.utils"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, REPL, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == status
    assert output in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("token", ["", " ", "\t\n"])
def test_the_repl_refuses_an_empty_token(token):
    done = subprocess.run(
        [sys.executable, REPL],
        env={**os.environ, "JUPYTER_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: JUPYTER_TOKEN is empty: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the interpreter of a new environment with xenon and its REPL."""
    folder = tmp_path_factory.mktemp("repl")
    for name in INSTALLED:  # a copy: pip builds in the folder that it installs
        source, copy = paths.ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    pip = [str(interpreter), "-m", "pip", "install", "-q"]
    if sys.version_info[:2] == (
        3,
        11,
    ):  # Debian's version, for which the constraints are
        pip += ["-c", str(CONSTRAINTS)]
    subprocess.run([*pip, f"{folder / 'source'}[cpu,repl]"], check=True)
    yield interpreter
    shutil.rmtree(folder)


def repl(python, folder, **environment):
    """Return Popen's arguments for a REPL in an environment and a working directory."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    # Without PYTHONPATH and in another folder, the kernel imports the installed xenon.
    env.pop("PYTHONPATH", None)
    env.update(environment, HOME=str(folder), PATH=f"{python.parent}:{env['PATH']}")
    root = ["--allow-root"] if os.geteuid() == 0 else []
    return {"args": [str(python), str(REPL), *root], "cwd": folder, "env": env}


@contextlib.contextmanager
def serving(args, port=None, **rest):
    """Run a REPL on a free port of 127.0.0.1; yield its address and its output."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    where = ["--ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*args, *where],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **rest,
    )
    try:
        output = []
        for line in process.stderr:
            output.append(line)
            if line.startswith(("REPL: ", "error: ")):
                break
        yield f"http://127.0.0.1:{port}", "".join(output)
    finally:
        with contextlib.suppress(ProcessLookupError):
            # Signal the process group: `unshare` of a clean root forwards no signals.
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def train_a_step(args, folder, **rest):
    """Train from a client of the REPL, and compare its output with the run's log."""
    done = subprocess.run(
        args,
        input=(paths.SUPPORT / "training_step.py").read_text(),
        capture_output=True,
        text=True,
        check=False,
        **rest,
    )
    assert done.returncode == 0, done.stderr
    epoch, loss = done.stdout.split()
    with open(folder / "run" / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == epoch
    assert float(row["val_loss"]) == pytest.approx(float(loss), rel=1e-6)


def ask(address: str, path: str, method: str = "GET", **headers: str):
    """Return the HTTP status and the body of a server's response."""
    server = http.client.HTTPConnection(address.split("//")[1], timeout=60)
    try:
        server.request(method, path, headers=headers)
        reply = server.getresponse()
        # After 101 the connection is a websocket, and stays open.
        return reply.status, b"" if reply.status == 101 else reply.read()
    finally:
        server.close()


def status(address: str, path: str, **headers: str) -> int:
    """Return the HTTP status of a GET request."""
    return ask(address, path, **headers)[0]


@pytest.mark.slow
def test_a_step_is_trained_from_the_repl_by_whoever_has_its_token(python, tmp_path):
    owner = {"Authorization": "token s3cret"}
    strangers = ({}, {"Authorization": "token s3cre"}, {"Authorization": "token "})
    with serving(**repl(python, tmp_path, JUPYTER_TOKEN="s3cret")) as (address, output):
        assert output.endswith("?token=<your JUPYTER_TOKEN>\n")  # not in any log
        assert "s3cret" not in output
        for stranger in strangers:
            for path in ("contents", "kernels", "sessions", "terminals", "status"):
                assert status(address, f"/api/{path}", **stranger) == 403, path
            assert ask(address, "/api/kernels", "POST", **stranger)[0] == 403
        code, body = ask(address, "/api/kernels", "POST", **owner)
        assert code == 201
        channels = f"/api/kernels/{json.loads(body)['id']}/channels"
        for stranger in strangers:
            assert status(address, channels, **UPGRADE, **stranger) == 403
        assert status(address, channels, **UPGRADE, **owner) == 101
        assert status(address, "/lab") == 302  # to the form that asks for the token
        assert status(address, "/lab?token=s3cret") == 200
        client = [str(python), str(paths.SUPPORT / "kernel_client.py"), address]
        env = {**os.environ, "JUPYTER_TOKEN": "s3cret"}
        train_a_step(client, tmp_path, env=env)


@pytest.mark.slow
def test_a_random_token_is_made_and_printed_when_none_is_given(python, tmp_path):
    tokens = []
    for _ in range(2):
        with serving(**repl(python, tmp_path)) as (address, output):
            pattern = re.escape(f"REPL: {address}/lab?token=") + r"([0-9a-f]{48})\n$"
            tokens += re.findall(pattern, output)
            owner = {"Authorization": f"token {tokens[-1]}"}
            assert status(address, "/api/kernels", **owner) == 200
            assert status(address, "/api/kernels") == 403
    assert tokens[0] != tokens[1]


@pytest.mark.slow
def test_jupyters_own_configuration_cannot_take_the_token_away(python, tmp_path):
    (tmp_path / ".jupyter").mkdir()
    config = tmp_path / ".jupyter" / "jupyter_server_config.py"
    config.write_text("c.IdentityProvider.token = ''\n")
    with serving(**repl(python, tmp_path, JUPYTER_TOKEN="s3cret")) as (address, output):
        assert output.splitlines()[-1].startswith("error: a configuration or a flag")
        with pytest.raises(ConnectionRefusedError):
            status(address, "/api/kernels")


@pytest.mark.slow
def test_a_port_that_is_taken_is_refused(python, tmp_path):
    """Jupyter would choose another port, which docker does not publish."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(**repl(python, tmp_path), port=port) as (_, output):
            assert f"port {port} is" in output
            assert "REPL: " not in output


def check_clean_root():
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap")


def make_root(folder, device):
    """Run the Dockerfile's steps."""
    check_clean_root()
    return CleanRoot(folder / "root", steps(), DEVICE=device, USER_ID="1234")


def answer(root, *words):
    """Return the output of a command in a container."""
    done = subprocess.run(root.command(words), check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def frozen(root):
    """Return a container's Python packages as name==version, without xenon."""
    lines = answer(root, "pip", "freeze", "--all").splitlines()
    return {
        "==".join([canonicalize_name(name), version])
        for name, version in (line.split("==") for line in lines if "==" in line)
        if name != "xenon-mx"
    }


@pytest.mark.slow
def test_the_dockerfiles_steps_make_a_container_to_train_in(tmp_path):
    root = make_root(tmp_path, "cpu")
    try:
        assert answer(root, "id", "-u") == "1234\n"
        assert answer(root, "pwd") == "/data\n"
        assert frozen(root) == set(lines_of(CONSTRAINTS))
        assert root.cmd[0] == "repl"
        secret = {"JUPYTER_TOKEN": "s3cret"}
        shutil.copy(paths.SUPPORT / "kernel_client.py", root.folder / "tmp")
        with serving(root.command(["repl"], **secret)) as (address, _):
            assert status(address, "/api/kernels") == 403
            client = ["python", "/tmp/kernel_client.py", address]
            train_a_step(root.command(client, **secret), root.folder / "data")
        written = root.folder / "data" / "run" / "log.csv"
        assert written.stat().st_uid == 1234
    finally:
        shutil.rmtree(root.folder)


# A CPU MXNet where NVIDIA's image has one for GPUs, with the GluonCV of that image.
# NVIDIA's image itself has not been tried.
THEIRS = [
    ("FROM", "debian:bookworm-slim"),
    (
        "RUN",
        "apt-get update && apt-get install --yes --no-install-recommends python3-pip "
        "ca-certificates libgomp1 libquadmath0 && python3 -m pip install "
        "--break-system-packages --no-cache-dir 'numpy<2' mxnet==1.9.1 {}",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "gluoncv", "where"),
    [
        ("gluoncv==0.7.0", "0.7.0", "/usr/local/lib/python3.11/dist-packages/"),
        ("", "0.10.5.post0", "/opt/xenon/lib/python3.11/site-packages/"),
    ],
)
def test_an_image_with_an_mxnet_is_used_as_it_is(tmp_path, theirs, gluoncv, where):
    check_clean_root()
    image = [(word, rest.format(theirs)) for word, rest in THEIRS]
    arguments = {"BASE": "theirs", "USER_ID": "1234"}
    root = CleanRoot(tmp_path / "root", steps(), {"theirs": image}, **arguments)
    try:
        code = """
from xenon_mx.runtime import mxnet_build
from xenon_mx.runtime.mxnet import model_zoo, mx
print(mx.__file__, mxnet_build.installed(), mxnet_build.gluoncv_version())
print(model_zoo.__file__)
"""
        mxnet_line, gluoncv_line = answer(root, "python", "-c", code).splitlines()
        assert mxnet_line == (
            "/usr/local/lib/python3.11/dist-packages/mxnet/__init__.py mxnet 1.9.1 "
            + gluoncv
        )
        assert gluoncv_line == f"{where}gluoncv/model_zoo/__init__.py"
        assert answer(root, "id", "-u") == "1234\n"
        secret = {"JUPYTER_TOKEN": "s3cret"}
        shutil.copy(paths.SUPPORT / "kernel_client.py", root.folder / "tmp")
        with serving(root.command(["repl"], **secret)) as (address, _):
            client = ["python", "/tmp/kernel_client.py", address]
            train_a_step(root.command(client, **secret), root.folder / "data")
    finally:
        shutil.rmtree(root.folder)


@pytest.mark.cuda
def test_the_dockerfiles_steps_make_a_container_for_gpus(tmp_path):
    """Without importing MXNet, whose GPU build needs a driver."""
    root = make_root(tmp_path, "gpu")
    try:
        names = {line.split("==")[0] for line in frozen(root)}
        assert {"mxnet-cu112", "nvidia-cudnn-cu11", "jupyterlab"} <= names
        assert "mxnet" not in names
        pinned = dict(line.split("==") for line in lines_of(CONSTRAINTS))
        loose = {n for n in names - set(pinned) if not n.startswith("nvidia-")}
        assert loose <= {"mxnet-cu112"}  # setup.py pins it, and NVIDIA's
        answer(root, "xenon-train", "--help")
    finally:
        shutil.rmtree(root.folder)
