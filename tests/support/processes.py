"""Queries about running processes and their sockets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from pathlib import Path


def left_over(mark):
    """Return the PIDs of processes with `mark` in command line or environment."""
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                text = (process / "cmdline").read_bytes()
                text += (process / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in text and int(process.name) != os.getpid():
                pids.append(process.name)
    return pids


def listeners(pids):
    """Return (address, port) of every TCP socket on which the processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    sockets = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
            address, port = fields[1].split(":")
            raw = bytes.fromhex(address)[::-1]
            sockets.append((socket.inet_ntoa(raw), int(port, 16)))
    return sockets


def environment_of(pid):
    """Return the environment that a process was started with, as NAME=VALUE."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:  # it has ended
        return []


def wait_for(condition, seconds=150):
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s")
