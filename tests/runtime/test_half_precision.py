"""Which 16-bit type a device trains in, and why it has none; no GPU was at hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from xenon_mx.errors import ConfigError
from xenon_mx.runtime import half_precision, nvidia_driver
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.nvidia_driver import Gpu

CPU = [SimpleNamespace(device_type="cpu", device_id=0)]
V100 = Gpu("NVIDIA V100", (7, 0), 16_000_000_000)
P100 = Gpu("NVIDIA P100", (6, 0), 16_000_000_000)


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Have /proc/cpuinfo tell the given flags."""

    def patch(flags):
        file = tmp_path / "cpuinfo"
        file.write_text(
            "".join(f"processor\t: {i}\nflags\t\t: {flags}\n\n" for i in range(2))
        )
        monkeypatch.setattr(half_precision, "_CPUINFO", file)

    return patch


def gpus(monkeypatch, *reported):
    monkeypatch.setattr(nvidia_driver, "gpus", lambda: list(reported))
    return [
        SimpleNamespace(device_type="gpu", device_id=i) for i in range(len(reported))
    ]


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_processor_with_bfloat16_trains_in_it(processor, flag):
    processor(f"fpu avx2 {flag} sse4_2")
    assert half_precision.dtype(CPU) == "bfloat16"
    assert half_precision.can_gain(CPU)


@pytest.mark.parametrize("flags", ["fpu avx2", "avx512f avx512_bf16x", ""])
def test_a_processor_without_bfloat16_is_refused(processor, flags):
    processor(flags)
    assert not half_precision.can_gain(CPU)
    with pytest.raises(ConfigError, match="--amp: this processor has no bfloat16"):
        half_precision.dtype(CPU)


def test_where_the_kernel_tells_no_flags_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setattr(half_precision, "_CPUINFO", tmp_path / "missing")
    assert half_precision.cpu_flags() == set()


def test_a_gpu_with_tensor_cores_trains_in_float16(monkeypatch):
    assert half_precision.dtype(gpus(monkeypatch, V100, V100)) == "float16"


def test_a_gpu_without_tensor_cores_is_refused_by_its_name(monkeypatch):
    ctxs = gpus(monkeypatch, V100, P100)
    assert not half_precision.can_gain(ctxs)
    with pytest.raises(ConfigError, match="--amp: NVIDIA P100 has no tensor cores"):
        half_precision.dtype(ctxs)


def test_an_mxnet_without_the_operator_is_refused(monkeypatch, processor):
    processor("avx512_bf16")
    monkeypatch.delattr(mx.sym, "amp_cast")
    with pytest.raises(ConfigError, match="--amp: MXNet 1.9.1 lacks .* amp_cast"):
        half_precision.dtype(CPU)


def test_an_mxnet_without_onednn_is_refused(monkeypatch, processor):
    processor("avx512_bf16")
    features = SimpleNamespace(is_enabled=lambda name: name != "MKLDNN")
    monkeypatch.setattr(mx.runtime, "Features", lambda: features)
    with pytest.raises(ConfigError, match="--amp: this MXNet has no oneDNN"):
        half_precision.dtype(CPU)
