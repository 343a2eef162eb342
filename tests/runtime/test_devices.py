"""Devices: the syntax of `--ctx`, and the choice where it is not given."""

from __future__ import annotations

import logging

import pytest

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import devices, gpu_support, nvidia_driver
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.nvidia_driver import Gpu

A10 = Gpu("NVIDIA A10", (8, 6), 24_000_000_000)


@pytest.fixture
def gpus(monkeypatch):
    """Have each GPU be usable (None), or not for a reason."""

    def patch(*reasons, cuda=True, reported=(A10,)):
        monkeypatch.setattr(gpu_support, "why_unusable", lambda index: reasons[index])
        monkeypatch.setattr(gpu_support, "has_cuda", lambda: cuda)
        monkeypatch.setattr(nvidia_driver, "gpus", lambda: list(reported))
        monkeypatch.setattr(devices, "_chosen", [])  # no GPU outlives the test

    return patch


# --ctx


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", [("cpu", 0)]),
        ("cpu()", [("cpu", 0)]),
        ("cpu(0)", [("cpu", 0)]),
        ("gpu", [("gpu", 0)]),
        ("gpu()", [("gpu", 0)]),
        ("gpu(3)", [("gpu", 3)]),
        ("gpu12", [("gpu", 12)]),
        ("gpu:1", [("gpu", 1)]),
        ("gpu(0),gpu(1)", [("gpu", 0), ("gpu", 1)]),
        (" gpu(1), gpu0 ", [("gpu", 1), ("gpu", 0)]),
        ("cpu(999)", [("cpu", 999)]),
    ],
)
def test_parse_ctx_parses_mxnets_spellings(text, expected):
    assert devices.parse_ctx(text) == expected


@pytest.mark.parametrize(
    "text",
    "|,|tpu|gpu(0|gpu0)|gpu(-1)|gpu(a)|gpu:|gpu:(0)|GPU(0)|0|gpu(0),|gpu(0);gpu(1)|"
    "mx.gpu(0)|cpu_pinned(0)|gpu(0)gpu(1)|cpu(\N{ARABIC-INDIC DIGIT THREE})".split("|"),
)
def test_parse_ctx_rejects_other_text_and_shows_the_syntax(text):
    with pytest.raises(ConfigError, match=r"write cpu\(\), gpu\(0\) or") as caught:
        devices.parse_ctx(text)
    assert caught.value.flag == "--ctx"
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["gpu(1),gpu1", "cpu,cpu()", "gpu,gpu(0)"])
def test_parse_ctx_refuses_a_device_named_twice(text):
    with pytest.raises(ConfigError, match="twice"):
        devices.parse_ctx(text)


@pytest.mark.parametrize(
    "number", ["1000", str(2**31 - 1), str(2**31), str(2**64), "9" * 5000]
)
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_parse_ctx_refuses_devices_for_which_mxnet_would_take_all_memory(kind, number):
    """It allocates a list entry for each device id up to the one in use."""
    for text in (f"{kind}({number})", f"{kind}{number}"):
        with pytest.raises(ConfigError, match="the highest device id is 999") as caught:
            devices.parse_ctx(text)
        assert caught.value.flag == "--ctx"


def test_parse_ctx_refuses_cpu_beside_gpu():
    with pytest.raises(ConfigError, match="mixes"):
        devices.parse_ctx("cpu(),gpu(0)")


# Devices


def test_contexts_gives_the_cpu():
    assert devices.contexts("cpu()") == [mx.cpu(0)]


def test_contexts_gives_every_gpu_named(gpus):
    gpus(None, None)
    assert devices.contexts("gpu(1),gpu(0)") == [mx.gpu(1), mx.gpu(0)]


def test_a_gpu_that_is_named_and_not_usable_is_refused_with_the_reason(gpus):
    gpus(None, "it is too old")
    with pytest.raises(XenonError) as caught:
        devices.contexts("gpu(0),gpu(1)")
    assert str(caught.value) == ("--ctx gpu(1): it is too old; or use --ctx 'cpu()'")


def default(caplog):
    with caplog.at_level(logging.INFO, "xenon_mx.runtime.devices"):
        selected = devices.contexts(None)
    return selected, caplog.messages


def test_default_takes_the_first_gpu_and_says_so(gpus, caplog):
    gpus(None, None)
    assert default(caplog) == ([mx.gpu(0)], ["ctx: gpu(0)"])


def test_default_of_the_cpu_wheel_takes_the_cpu(gpus, caplog):
    gpus("it has no CUDA", cuda=False, reported=())
    assert default(caplog) == ([mx.cpu(0)], ["ctx: cpu(0)"])


@pytest.mark.parametrize(("cuda", "reported"), [(True, ()), (False, (A10,))])
def test_default_without_a_usable_gpu_says_why(gpus, caplog, cuda, reported):
    gpus("it is too old", cuda=cuda, reported=reported)
    selected, messages = default(caplog)
    assert selected == [mx.cpu(0)]
    assert messages == ["ctx: cpu(0), not a GPU: it is too old"]
    assert caplog.records[0].levelno == logging.WARNING


def test_the_gpus_that_were_chosen_give_their_memory_back(gpus, monkeypatch):
    gpus(None, None, None)
    emptied = []
    monkeypatch.setattr(mx.Context, "empty_cache", lambda ctx: emptied.append(str(ctx)))
    devices.contexts("cpu()")
    devices.release_memory()
    assert emptied == []
    devices.contexts("gpu(0),gpu(2)")
    assert devices.last_chosen() == "gpu(0),gpu(2)"
    devices.release_memory()
    assert emptied == ["gpu(0)", "gpu(2)"]
