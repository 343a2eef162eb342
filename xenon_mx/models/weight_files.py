"""Named arrays in files: Gluon's .params, .safetensors and .pth. Knows no nets.

A file is told by its first bytes, not by its name. Nothing is unpickled blindly, and
nothing reaches MXNet's own reader, which some damaged files hang or crash.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from xenon_mx.errors import XenonError

# Gluon's format, from NDArray::Save and MXNet's C API in src/ndarray/ndarray.cc, all
# little-endian: u64 magic, u64 0, u64 count, the arrays, u64 count, the names.
_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")  # mshadow's type flags
_DENSE, _CPU = 0, 1
_MOST_AXES = 32  # NumPy's own limit

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # torch.save since 1.6, and before


class _DamagedError(Exception):
    """A file does not hold what its format says."""


def read(file: Path) -> dict[str, np.ndarray]:
    """Read every array of a file.

    Args:
        file: Gluon's .params; .safetensors; or .pth as torch.save writes a state
            dict, alone or under `state_dict`, which needs PyTorch.

    Returns:
        Name to array. The arrays may be read-only.

    Raises:
        XenonError: The file is missing, damaged, of another format, or holds values
            that are not finite.
    """
    try:
        with open(file, "rb") as stream:
            start = stream.read(9)
        arrays = _reader(file, start)(file)
    except OSError as error:
        raise XenonError(f"{file}: {os.strerror(error.errno or 0).lower()}") from error
    except _DamagedError as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    if not arrays:
        raise XenonError(f"{file}: holds no named arrays")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise XenonError(f"{file}: {name} holds values that are not finite")
    return arrays


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a .params file that MXNet 1.9 loads too.

    Args:
        arrays: Name to array, of a type that MXNet has, each with at least one axis.
    """
    parts = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        flag = _DTYPES.index(array.dtype.str.lstrip("|"))
        parts.append(struct.pack("<IiI", _V2, _DENSE, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(struct.pack("<iii", _CPU, 0, flag))
        parts.append(np.ascontiguousarray(array).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode()
        parts += [struct.pack("<Q", len(encoded)), encoded]
    return b"".join(parts)


def _reader(file: Path, start: bytes) -> Any:
    if start[:8] == struct.pack("<Q", _LIST_MAGIC):
        return _read_params
    if start[8:] == b"{":
        return _read_safetensors
    if start.startswith((_ZIP, _PICKLE)):
        return _read_pth
    raise XenonError(
        f"{file}: holds no weights: neither Gluon's .params, nor .safetensors, nor "
        f"PyTorch's .pth"
    )


class _Bytes:
    """Takes numbers off the front of a file's bytes, and never more than there are."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._at = 0

    def take(self, count: int) -> memoryview:
        left = len(self._content) - self._at
        if not 0 <= count <= left:
            raise _DamagedError(f"ends {count - left:,} bytes too early")
        self._at += count
        return self._content[self._at - count : self._at]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def number(self, form: str) -> int:
        return self.numbers(form)[0]

    def expect_end(self) -> None:
        left = len(self._content) - self._at
        if left:
            raise _DamagedError(f"{left:,} bytes follow its end")


def _read_params(file: Path) -> dict[str, np.ndarray]:
    data = _Bytes(file.read_bytes())
    data.numbers("QQ")
    arrays = [_array(data) for _ in range(data.number("Q"))]
    count = data.number("Q")
    if count not in (0, len(arrays)):
        raise _DamagedError(f"{len(arrays)} arrays, but {count} names")
    try:
        names = [str(data.take(data.number("Q")), "utf-8") for _ in range(count)]
    except UnicodeDecodeError as error:
        raise _DamagedError("a name is not UTF-8") from error
    data.expect_end()
    if len(set(names)) < len(names):
        raise _DamagedError("a name stands twice")
    return dict(zip(names, arrays))


def _array(data: _Bytes) -> np.ndarray:
    shape = _shape(data)
    if not shape:
        raise _DamagedError("an array has no shape")
    data.numbers("ii")  # the device that it was saved on
    flag = data.number("i")
    if not 0 <= flag < len(_DTYPES):
        raise _DamagedError(f"unknown type {flag} of an array")
    dtype = np.dtype(_DTYPES[flag])
    size = dtype.itemsize
    for side in shape:
        size *= side
    return np.frombuffer(data.take(size), dtype).reshape(shape)


def _shape(data: _Bytes) -> tuple[int, ...]:
    """Read an array's header up to its shape, in each of MXNet's four versions."""
    magic = data.number("I")
    if magic in (_V2, _V3) and data.number("i") != _DENSE:
        raise _DamagedError("an array is sparse, or its header is wrong")
    form, axes = "q", magic
    if magic in (_V1, _V2, _V3):
        axes = data.number("I")
    else:  # before version 1, the number of axes stood in the place of the magic
        form = "I"
    if axes > _MOST_AXES:
        raise _DamagedError("the header of an array is wrong")
    shape = data.numbers(form * axes)
    if any(side < 0 for side in shape):
        raise _DamagedError(f"an array of shape {shape}")
    return shape


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    import safetensors
    from safetensors.numpy import load_file

    try:
        return load_file(str(file))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _DamagedError(f"not as safetensors writes it: {error}") from error


def _read_pth(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise XenonError(
            f"{file}: reading a .pth takes PyTorch: pip install 'xenon-mx[torch]'; or "
            f"give the same weights as .safetensors"
        ) from error
    try:
        # Executes nothing that the file says: it may name tensors only.
        content = torch.load(str(file), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own
        first = (str(error) or repr(error)).splitlines()[0]
        raise XenonError(
            f"{file}: PyTorch does not read it as plain weights: {first}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise XenonError(f"{file}: holds no state dict")
    # DataParallel puts `module.` before every name.
    return {
        str(name)[len("module.") :] if str(name).startswith("module.") else str(name): (
            tensor.detach().float() if tensor.is_floating_point() else tensor
        ).numpy()
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }
