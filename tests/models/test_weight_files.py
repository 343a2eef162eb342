"""Weights files: read whole or refused with their name, and never executed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import struct
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files
from xenon_mx.runtime.mxnet import mx

ARRAYS = {
    "features.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "output.bias": np.array([-1.5], np.float32),
}


def same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        assert (actual[name] == array).all()


def params(file, arrays=ARRAYS):
    """Write a file with MXNet."""
    mx.nd.save(str(file), {k: mx.nd.array(a, dtype=a.dtype) for k, a in arrays.items()})
    return file


def written(version, shape, values):
    """Return the bytes of one array named `a`, as MXNet's earlier versions wrote it."""
    magic = {0: b"", 1: struct.pack("<I", 0xF993FAC8)}[version]
    sides = "I" if version == 0 else "q"
    return (
        struct.pack("<QQQ", 0x112, 0, 1)
        + magic
        + struct.pack(f"<I{len(shape)}{sides}", len(shape), *shape)
        + struct.pack("<iii", 1, 0, 0)
        + np.array(values, "<f4").tobytes()
        + struct.pack("<QQ", 1, 1)
        + b"a"
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i4", "i1", "i8"])
def test_what_mxnet_wrote_is_read(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    same(weight_files.read(params(tmp_path / "x.params", arrays)), arrays)


@pytest.mark.parametrize("version", [0, 1])
def test_what_earlier_versions_of_mxnet_wrote_is_read(tmp_path, version):
    file = tmp_path / "x.params"
    file.write_bytes(written(version, (2, 1), [3, 4]))
    expected = mx.nd.load(str(file))["a"].asnumpy()  # MXNet's own reader agrees
    same(weight_files.read(file), {"a": expected})
    assert expected.tolist() == [[3], [4]]


def test_safetensors_are_read_whatever_the_name(tmp_path):
    save_file(ARRAYS, tmp_path / "weights.params")
    same(weight_files.read(tmp_path / "weights.params"), ARRAYS)


def stored(dtype, values, data):
    """Return the bytes of a .safetensors file of one array `a` with a dtype."""
    spec = {"dtype": dtype, "shape": [values], "data_offsets": [0, len(data)]}
    header = json.dumps({"a": spec}).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_half_precision_is_read_from_safetensors(tmp_path):
    half = {"a": np.array([1.5, -2, 65504], np.float16)}
    save_file(half, tmp_path / "half")
    same(weight_files.read(tmp_path / "half"), half)
    # The upper halves of float32: 1, -2, the largest, and the smallest of all.
    content = struct.pack("<4H", 0x3F80, 0xC000, 0x7F7F, 0x0001)
    (tmp_path / "brain").write_bytes(stored("BF16", 4, content))
    expected = np.array([1, -2, (2 - 2**-7) * 2.0**127, 2.0**-133], np.float32)
    same(weight_files.read(tmp_path / "brain"), {"a": expected})


def test_infinities_of_bfloat16_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(stored("BF16", 1, struct.pack("<H", 0x7F80)))
    with pytest.raises(XenonError, match="a holds values that are not finite"):
        weight_files.read(tmp_path / "x")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_dtypes_that_numpy_lacks_are_refused_by_the_arrays_name(tmp_path, dtype):
    (tmp_path / "x").write_bytes(stored(dtype, 2, b"\0\0"))
    with pytest.raises(XenonError, match=f"x: a is of {dtype}, .* float32"):
        weight_files.read(tmp_path / "x")


@pytest.mark.parametrize("write", [params, lambda file: save_file(ARRAYS, file)])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, write):
    write(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(XenonError, match=str(cut)):
            weight_files.read(cut)


@pytest.mark.parametrize("write", [params, lambda file: save_file(ARRAYS, file)])
def test_a_flipped_bit_is_refused_or_read_never_anything_else(tmp_path, write):
    write(tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "x").write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(XenonError):
            weight_files.read(tmp_path / "x")


def test_bytes_after_the_end_are_refused(tmp_path):
    file = params(tmp_path / "x.params")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(XenonError, match="1 byte after its end"):
        weight_files.read(file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_the_arrays_name(tmp_path, value):
    arrays = {"good": ARRAYS["output.bias"], "bad": np.array([1, value], np.float32)}
    with pytest.raises(XenonError, match="bad holds values that are not finite"):
        weight_files.read(params(tmp_path / "x.params", arrays))


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89PNG\r\n\x1a\n" * 3])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(XenonError, match=r"x\.pth: holds no weights"):
        weight_files.read(tmp_path / "x.pth")


def test_a_file_without_names_is_refused(tmp_path):
    mx.nd.save(str(tmp_path / "x"), [mx.nd.zeros((1,))])
    with pytest.raises(XenonError, match="no named arrays"):
        weight_files.read(tmp_path / "x")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(XenonError, match="No such file"):
        weight_files.read(tmp_path / "x")
    with pytest.raises(XenonError, match="Is a directory"):
        weight_files.read(tmp_path)


def test_a_pth_without_pytorch_is_refused_with_the_package_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(XenonError, match=r"pip install '\.\[torch\]'.*safetensors"):
        weight_files.read(tmp_path / "x.pth")


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        None,
        "state_dict",
        "model",
        "model_state_dict",
        "model_state",
        "net",
        "params",
    ],
)
def test_a_pth_is_read_in_every_form_that_training_scripts_write(
    tmp_path, zipped, wrap
):
    import torch

    arrays = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    torch.save(
        {wrap: arrays, "epoch": 3} if wrap else arrays,
        tmp_path / "x.pth",
        _use_new_zipfile_serialization=zipped,
    )
    same(weight_files.read(tmp_path / "x.pth"), ARRAYS)


def lightning(arrays):
    """Return a checkpoint with what Lightning 2 puts beside the state dict."""
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{name}": array for name, array in arrays.items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_k_models": {}}},
        "optimizer_states": [{"state": {0: {"exp_avg": next(iter(arrays.values()))}}}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"model": {"name": "densenet169"}, "lr": 1e-4},
        "params": {"lr": 1e-4},
    }


@pytest.mark.torch
def test_settings_beside_a_state_dict_are_no_second_one(tmp_path):
    import torch

    arrays = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    torch.save(lightning(arrays), tmp_path / "x.ckpt")
    expected = {f"model.{name}": array for name, array in ARRAYS.items()}
    same(weight_files.read(tmp_path / "x.ckpt"), expected)
    torch.save({"model": {"state_dict": arrays, "name": "d"}}, tmp_path / "x.ckpt")
    same(weight_files.read(tmp_path / "x.ckpt"), ARRAYS)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict", "state_dict_ema"),  # timm
        ("model", "model_ema"),  # torchvision
        ("params", "params_ema"),  # BasicSR
        ("model", "net"),
    ],
)
def test_several_state_dicts_in_a_pth_are_refused_by_name(tmp_path, first, second):
    import torch

    arrays = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    torch.save({first: arrays, second: arrays, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(XenonError, match=rf"x\.pth: .* {first} and {second}: "):
        weight_files.read(tmp_path / "x.pth")
    torch.save({second: arrays, "epoch": 3}, tmp_path / "x.pth")
    same(weight_files.read(tmp_path / "x.pth"), ARRAYS)


@pytest.mark.torch
def test_a_dictionary_that_holds_itself_is_refused(tmp_path):
    import torch

    endless = {"epoch": 3}
    endless["model"] = endless
    torch.save(endless, tmp_path / "x.pth")
    with pytest.raises(XenonError, match=r"x\.pth: holds no state dict"):
        weight_files.read(tmp_path / "x.pth")


@pytest.mark.torch
def test_other_words_of_pytorch_are_one_line_without_its_advice(tmp_path):
    # A pickle whose second opcode does not exist.
    (tmp_path / "x.pth").write_bytes(b"\x80\x02\xfe.")
    with pytest.raises(XenonError) as caught:
        weight_files.read(tmp_path / "x.pth")
    assert "plain weights: Unsupported operand 254" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize("content", [[1], {"epoch": 3}, {"state_dict": {}}])
def test_a_pth_without_tensors_is_refused(tmp_path, content):
    import torch

    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(XenonError, match=r"x\.pth: holds no state dict"):
        weight_files.read(tmp_path / "x.pth")


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        (lambda torch: argparse.Namespace(lr=1), "argparse.Namespace"),
        (lambda torch: pathlib.PurePosixPath("x"), "pathlib.PurePosixPath"),
        (lambda torch: np.float64(0.9), r"numpy.*\.scalar"),
        (lambda torch: torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_objects_in_a_pth_are_refused_by_their_type(tmp_path, zipped, extra, kind):
    import torch

    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "extra": extra(torch)},
        tmp_path / "x.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(XenonError) as caught:
        weight_files.read(tmp_path / "x.pth")
    assert re.search(
        rf"x\.pth: PyTorch does not read it as plain weights: it holds {kind}; "
        r"where it came from, save the tensors alone: "
        r"torch\.save\(net\.state_dict\(\), \S+\)$",
        str(caught.value),
    )


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code:UserWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_net_is_refused_and_its_state_dict_is_read(tmp_path, zipped):
    """As torchxrayvision's DenseNets are published."""
    import torch

    models = types.ModuleType("torchxrayvision.models")
    kind = type("DenseNet", (torch.nn.Linear,), {"__module__": models.__name__})
    models.DenseNet = kind
    net = kind(2, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchxrayvision", types.ModuleType("package"))
        patch.setitem(sys.modules, models.__name__, models)
        options = {"_use_new_zipfile_serialization": zipped}
        torch.save(net, tmp_path / "x.pt", **options)
    with pytest.raises(XenonError) as caught:
        weight_files.read(tmp_path / "x.pt")
    assert str(caught.value).endswith(
        "it holds torchxrayvision.models.DenseNet; where it came from, save the "
        "tensors alone: torch.save(net.state_dict(), 'weights.pth')"
    )
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    assert weight_files.read(tmp_path / "weights.pth").keys() == {"weight", "bias"}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.filterwarnings("ignore:.*torch.jit")  # FutureWarning since PyTorch 2.14
def test_torchscript_is_refused_as_such(tmp_path):
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "x.pt"))
    with pytest.raises(XenonError, match=r"TorchScript.*; where .*, save the tensors"):
        weight_files.read(tmp_path / "x.pt")


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pth_executes_nothing(tmp_path, zipped):
    import torch

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    torch.save(
        {"a": Hostile()}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(XenonError, match=r"x\.pth: PyTorch does not read it"):
        weight_files.read(tmp_path / "x.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_pth_is_refused(tmp_path, zipped):
    import torch

    file = tmp_path / "x.pth"
    arrays = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    torch.save(arrays, file, _use_new_zipfile_serialization=zipped)
    content = file.read_bytes()
    for length in range(1, len(content), 7):
        file.write_bytes(content[:length])
        with pytest.raises(XenonError, match=r"x\.pth"):
            weight_files.read(file)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_pth_of_any_precision_is_read(tmp_path, dtype):
    import torch

    values = torch.tensor([1.5, -2.0], dtype=getattr(torch, dtype))
    torch.save({"a": torch.nn.Parameter(values)}, tmp_path / "x.pth")
    same(weight_files.read(tmp_path / "x.pth"), {"a": np.array([1.5, -2], np.float32)})


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["quantized", "sparse"])
def test_tensors_that_are_no_plain_arrays_are_refused_by_name(tmp_path, kind):
    import torch

    dense = torch.ones(2)
    make = {
        "quantized": lambda: torch.quantize_per_tensor(dense, 1.0, 0, torch.qint8),
        "sparse": dense.to_sparse,
    }
    torch.save({"good": dense, "bad": make[kind]()}, tmp_path / "x.pth")
    with pytest.raises(XenonError, match=r"x\.pth: bad is no plain array"):
        weight_files.read(tmp_path / "x.pth")
