"""What this computer is: its processor, and what the processor can multiply with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Instructions that decide the speed of float32, bfloat16 and int8, as Linux names them.
X86 = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni"]
ARM = ["asimd", "bf16", "sve"]


def describe() -> str:
    """Return processor, cores, Python and instructions in one line."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    cpu = _field(text, "model name") or platform.processor() or platform.machine()
    parts = [cpu, f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *instructions(text)])


def instructions(cpuinfo: str) -> list[str]:
    """Return which instructions the text of /proc/cpuinfo names, and which it lacks.

    Returns:
        `with A B` and `without C`; nothing where there is no such list (macOS).
    """
    x86, arm = _field(cpuinfo, "flags"), _field(cpuinfo, "Features")
    known, has = (X86, x86.split()) if x86 else (ARM, arm.split())
    if not has:
        return []
    present = [name for name in known if name in has]
    absent = [name for name in known if name not in has]
    parts = [("with", present), ("without", absent)]
    return [f"{word} {' '.join(names)}" for word, names in parts if names]


def _field(cpuinfo: str, key: str) -> str:
    """Return a field of the first processor; empty if there is none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
