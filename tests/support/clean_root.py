"""Run a Dockerfile's instructions in a debootstrap Debian, without a Docker engine.

Needs root, debootstrap and the network. Docker's resource limits and separate network
are left out. See test_docker.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import MappingProxyType
from typing import Mapping, Sequence, Tuple

from support import paths

Steps = Sequence[Tuple[str, str]]  # keyword and arguments of each instruction

# Docker's default.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Network settings for apt and pip; a Docker builder passes them on as well.
NETWORK = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")


class CleanRoot:
    """A folder that serves as the root file system of a container.

    Args:
        folder: The folder to create.
        steps: The Dockerfile's instructions, each with its arguments.
        images: The instructions that make images other than Debian's, by their names.
        arguments: The values of `docker build --build-arg`.
    """

    def __init__(
        self,
        folder: Path,
        steps: Steps,
        images: Mapping[str, Steps] = MappingProxyType({}),
        **arguments: str,
    ) -> None:
        self.folder = folder
        self.images = images
        self.environment = {"PATH": PATH}
        self.arguments: dict[str, str] = {}
        self.user, self.workdir, self.cmd = "0", "/", []
        self._build(steps, arguments)

    def _build(self, steps: Steps, given: Mapping[str, str]) -> None:
        for word, rest in steps:
            getattr(self, f"_{word.lower()}")(rest, given)

    def command(self, words: Sequence[str], **environment: str) -> list[str]:
        """Return the command line that runs `words` in the container, as its user."""
        home = "/root" if self.user == "0" else "/home/xenon"
        env = {**self.environment, "HOME": home, **environment}
        return [
            # The PID namespace and its /proc end with the command.
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            f"--mount-proc={self.folder}/proc",
            *("chroot", f"--userspec={self.user}:{self.user}", str(self.folder)),
            *("env", "-i", *(f"{key}={value}" for key, value in env.items())),
            *("bash", "-c", f'cd {self.workdir} && exec "$@"', "bash", *words),
        ]

    def _from(self, rest: str, given: Mapping[str, str]) -> None:
        words = [shutil.which("bash"), "-c", f"printf %s {rest}"]
        base = subprocess.check_output(words, env=self.arguments, text=True)
        self.arguments = {}  # an argument before FROM has to be declared again
        if base in self.images:
            self._build(self.images[base], {})
            return
        suite = base.split(":")[1].split("-")[0]
        # The Debian release of the base image.
        words = ["debootstrap", "--variant=minbase", suite, str(self.folder)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        shutil.copy("/etc/resolv.conf", self.folder / "etc")
        (self.folder / "dev" / "shm").chmod(0o1777)  # for semaphores, as Docker's is

    def _arg(self, rest: str, given: Mapping[str, str]) -> None:
        name, has_default, default = rest.partition("=")
        if name in given:
            self.arguments[name] = given[name]
        elif has_default:
            self.arguments[name] = default

    def _copy(self, rest: str, given: Mapping[str, str]) -> None:
        source, target = rest.split()
        root = paths.ROOT
        for line in (root / ".dockerignore").read_text().splitlines():
            if line.startswith("!"):
                origin = root / source / line[1:]
                copy = self.folder / target.lstrip("/") / line[1:]
                copy.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if origin.is_dir() else shutil.copy)(origin, copy)

    def _run(self, rest: str, given: Mapping[str, str]) -> None:
        env = {name: os.environ[name] for name in NETWORK if name in os.environ}
        if "PIP_CERT" in os.environ:
            shutil.copy(os.environ["PIP_CERT"], self.folder / "tmp" / "pip.crt")
            env["PIP_CERT"] = "/tmp/pip.crt"
        words = self.command(["bash", "-c", rest], **self.arguments, **env)
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def _env(self, rest: str, given: Mapping[str, str]) -> None:
        script = f'printf "%s\\n" {rest}'
        words = self.command(["bash", "-c", script])
        lines = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        for line in lines.stdout.splitlines():
            name, value = line.split("=", 1)
            self.environment[name] = value

    def _user(self, rest: str, given: Mapping[str, str]) -> None:
        self.user = self.arguments[rest.lstrip("$")]

    def _workdir(self, rest: str, given: Mapping[str, str]) -> None:
        self.workdir = rest

    def _expose(self, rest: str, given: Mapping[str, str]) -> None:
        """Do nothing: EXPOSE is documentation; only publishing opens a port."""

    def _cmd(self, rest: str, given: Mapping[str, str]) -> None:
        self.cmd = json.loads(rest)
