"""Reading named arrays from Gluon's .params, .safetensors and .pth; writing .params.

Owns these file formats; must not know nets. The format is recognized by a file's first
bytes, not by its name. Only tensors are unpickled, and MXNet's own reader is not used,
because some damaged files make it hang or crash.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np

from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import extras, files, text

# Gluon's format, from NDArray::Save and MXNet's C API in src/ndarray/ndarray.cc, all
# little-endian: u64 magic, u64 0, u64 count, the arrays, u64 count, the names.
_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")  # mshadow's type flags
_DENSE, _CPU = 0, 1
_MAX_AXES = 32  # NumPy's own limit

_SAFETENSORS_DTYPES = {
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    "BOOL": "?",
    "C64": "<c8",
}

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # torch.save since 1.6, and before

# Where training scripts keep a state dict in a checkpoint, and the average of the
# weights beside it (timm, torchvision's references, BasicSR).
_STATE_DICT_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "params"),
    *("state_dict_ema", "model_ema", "params_ema"),
)
_MAX_DEPTH = 3  # a damaged file's dictionary can hold itself

# PyTorch's words for a type that it does not read: since 2.4, and before.
_UNSUPPORTED = re.compile(r"Unsupported (?:global: GLOBAL|class) ([\w.]*\w)")
_SAVE_TENSORS = (
    "where it came from, save the tensors alone: torch.save(net.state_dict(), "
    "'weights.pth')"
)


class _DamagedError(Exception):
    """The content of a file contradicts its format."""


def read(
    file: Path,
    sha256: str | None = None,
    is_weight: Callable[[str], bool] = lambda name: True,
) -> dict[str, np.ndarray]:
    """Read every array of a file.

    Args:
        file: Gluon's .params; .safetensors; or, with PyTorch installed, .pth with a
            state dict, alone or under one of `_STATE_DICT_KEYS`.
        sha256: The SHA-256 that its bytes must have, if it was recorded.
        is_weight: Whether the values of a name must be finite.

    Returns:
        Name to array. The arrays may be read-only.

    Raises:
        XenonError: The file is missing, damaged, of another format, or has values
            that are not finite.
    """
    try:
        with open(file, "rb") as stream:
            if sha256 is None:  # so that no large file of another format is read whole
                _parser(file, stream.read(9))
                stream.seek(0)
            data = stream.read()
        if sha256 is not None:
            files.check_sha256(file, sha256, data)
        arrays = _parser(file, data)(file, data)
    except OSError as error:
        raise os_error(file, error) from error
    except _DamagedError as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    if not arrays:
        raise XenonError(f"{file}: holds no named arrays")
    for name, array in arrays.items():
        is_finite = array.dtype.kind != "f" or np.isfinite(array).all()
        if not is_finite and is_weight(name):
            raise XenonError(f"{file}: {name} holds values that are not finite")
    return arrays


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a .params file, which MXNet 1.9 can load as well.

    Args:
        arrays: Name to array, of a dtype that MXNet has, each with at least one axis.
    """
    return b"".join(encoded_parts(arrays))


def encoded_parts(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Yield the bytes of `encode` in parts, of one array at a time."""
    yield struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))
    for array in arrays.values():
        flag = _DTYPES.index(array.dtype.str.lstrip("|"))
        yield struct.pack("<IiI", _V2, _DENSE, array.ndim)
        yield struct.pack(f"<{array.ndim}q", *array.shape)
        yield struct.pack("<iii", _CPU, 0, flag)
        yield np.ascontiguousarray(array).tobytes()
    yield struct.pack("<Q", len(arrays))
    for name in arrays:
        encoded = name.encode()
        yield struct.pack("<Q", len(encoded)) + encoded


def _parser(file: Path, data: bytes) -> Any:
    """Return the function that parses the format of a file."""
    if data[:8] == struct.pack("<Q", _LIST_MAGIC):
        return _parse_params
    if data[8:9] == b"{":
        return _parse_safetensors
    if data.startswith((_ZIP, _PICKLE)):
        return _parse_pth
    raise XenonError(
        f"{file}: holds no weights: neither Gluon's .params, nor .safetensors, nor "
        f"PyTorch's .pth"
    )


class _Bytes:
    """Bounds-checked sequential reader of bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._position = 0

    def take(self, count: int) -> memoryview:
        left = len(self._content) - self._position
        if not 0 <= count <= left:
            raise _DamagedError(f"ends {text.counted(count - left, 'byte')} too early")
        self._position += count
        return self._content[self._position - count : self._position]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def number(self, form: str) -> int:
        return self.numbers(form)[0]

    def expect_end(self) -> None:
        left = len(self._content) - self._position
        if left:
            raise _DamagedError(f"{text.counted(left, 'byte')} after its end")


def _parse_params(file: Path, content: bytes) -> dict[str, np.ndarray]:
    data = _Bytes(content)
    data.numbers("QQ")
    arrays = [_read_array(data) for _ in range(data.number("Q"))]
    count = data.number("Q")
    if count not in (0, len(arrays)):
        names_found = text.counted(count, "name")
        raise _DamagedError(f"{text.counted(len(arrays), 'array')}, but {names_found}")
    try:
        names = [str(data.take(data.number("Q")), "utf-8") for _ in range(count)]
    except UnicodeDecodeError as error:
        raise _DamagedError("a name is not UTF-8") from error
    data.expect_end()
    if len(set(names)) < len(names):
        raise _DamagedError("two arrays have the same name")
    return dict(zip(names, arrays))


def _read_array(data: _Bytes) -> np.ndarray:
    shape = _read_shape(data)
    if not shape:
        raise _DamagedError("an array has no shape")
    data.numbers("ii")  # the device it was saved from
    flag = data.number("i")
    if not 0 <= flag < len(_DTYPES):
        raise _DamagedError(f"unknown type {flag} of an array")
    dtype = np.dtype(_DTYPES[flag])
    size = dtype.itemsize
    for side in shape:
        size *= side
    return np.frombuffer(data.take(size), dtype).reshape(shape)


def _read_shape(data: _Bytes) -> tuple[int, ...]:
    """Read an array's header up to its shape, in any of MXNet's four versions."""
    magic = data.number("I")
    if magic in (_V2, _V3) and data.number("i") != _DENSE:
        raise _DamagedError("an array is sparse, or its header is wrong")
    form, axes = "q", magic
    if magic in (_V1, _V2, _V3):
        axes = data.number("I")
    else:  # before version 1, the number of axes was in the magic's place
        form = "I"
    if axes > _MAX_AXES:
        raise _DamagedError("the header of an array is wrong")
    shape = data.numbers(form * axes)
    if any(side < 0 for side in shape):
        raise _DamagedError(f"an array of shape {shape}")
    return shape


def _parse_safetensors(file: Path, content: bytes) -> dict[str, np.ndarray]:
    import safetensors

    try:
        stored = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise _DamagedError(f"not valid safetensors: {error}") from error
    # The library returns them in an order that changes from call to call.
    arrays = dict(sorted(stored, key=lambda item: item[0]))
    return {name: _view(file, name, **array) for name, array in arrays.items()}


def _view(file: Path, name: str, dtype: str, shape: Any, data: bytes) -> np.ndarray:
    """Return an array of a .safetensors file."""
    if dtype == "BF16":  # which NumPy lacks: the upper half of a float32
        upper = np.frombuffer(data, "<u2").astype("<u4")
        return (upper << 16).view("<f4").reshape(shape)
    if dtype not in _SAFETENSORS_DTYPES:
        raise XenonError(
            f"{file}: {name} is of {dtype}, which NumPy lacks: convert the weights "
            f"to float32"
        )
    return np.frombuffer(data, _SAFETENSORS_DTYPES[dtype]).reshape(shape)


def _parse_pth(file: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise XenonError(
            f"{file}: reading a .pth needs PyTorch: {extras.install('torch')}; or "
            f"convert the weights to .safetensors"
        ) from error
    try:
        # weights_only: executes no code from the file, which may contain only tensors.
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own
        raise XenonError(
            f"{file}: PyTorch does not read it as plain weights: {_reason(error)}"
        ) from error
    found = _state_dicts(loaded, torch.Tensor)
    if not found:
        raise XenonError(f"{file}: holds no state dict")
    if len(found) > 1:
        raise XenonError(
            f"{file}: holds several state dicts, under {' and '.join(found)}: save the "
            f"one to use in a file of its own"
        )
    (tensors,) = found.values()
    return {name: _as_array(file, name, tensor) for name, tensor in tensors.items()}


def _reason(error: Exception) -> str:
    """Return in one line why PyTorch did not read a file, and what to do."""
    message = str(error)
    found = _UNSUPPORTED.search(message)
    if found:
        return f"it holds {found.group(1)}; {_SAVE_TENSORS}"
    if "TorchScript" in message:
        return f"it is a TorchScript archive; {_SAVE_TENSORS}"
    # The rest explains how to execute the file, which nobody should.
    inner = message.split("WeightsUnpickler error: ")[-1].strip() or repr(error)
    return text.one_line(inner.splitlines()[0])


def _state_dicts(
    loaded: Any, tensor_type: type, path: str = ""
) -> dict[str, dict[str, Any]]:
    """Return every state dict of a checkpoint.

    Args:
        loaded: What PyTorch read.
        tensor_type: PyTorch's type of tensors.
        path: The keys under which it was.

    Returns:
        The keys with dots between them, such as `state_dict`, to name to tensor. What
        stands beside a state dict, or is no tensor, is left out.
    """
    if not isinstance(loaded, dict) or path.count(".") == _MAX_DEPTH:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for key in _STATE_DICT_KEYS:
        below = f"{path}.{key}" if path else key
        found.update(_state_dicts(loaded.get(key), tensor_type, below))
    tensors = {str(k): v for k, v in loaded.items() if isinstance(v, tensor_type)}
    return found or ({path: tensors} if tensors else {})


def _as_array(file: Path, name: str, tensor: Any) -> np.ndarray:
    """Return a tensor of PyTorch as an array; of float32 if it is of floating point."""
    try:
        # NumPy lacks bfloat16.
        return (
            tensor.detach().float() if tensor.is_floating_point() else tensor
        ).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, or quantized
        raise XenonError(
            f"{file}: {name} is no plain array: save the weights as dense tensors of "
            f"float32"
        ) from error
