"""What tests ask the system about processes: who is left, and who listens."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from pathlib import Path


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


def listeners(pids):
    """(address, port) of every TCP socket on which some processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
            address, port = fields[1].split(":")
            raw = bytes.fromhex(address)[::-1]
            found.append((socket.inet_ntoa(raw), int(port, 16)))
    return found


def environment_of(pid):
    """The variables that a process was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:  # it has ended
        return []


def wait_for(condition, seconds=150):
    """Wait until a condition holds, and give what it gave."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s")
