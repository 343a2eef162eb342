"""Devices: the syntax of `--ctx`, and which GPUs are accepted.

Some tests run a new interpreter with stubs of MXNet and of NVIDIA's driver.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from support.cuda_stub import build_driver
from support.fresh_python import install, output, refusal

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import devices
from xenon_mx.runtime.devices import Gpu
from xenon_mx.runtime.mxnet import mx

# The parts of the CUDA wheel that `contexts` uses.
CUDA_MXNET = """
from types import SimpleNamespace as Space
runtime = Space(Features=lambda: Space(is_enabled=lambda name: name == "CUDA"))
context = Space(num_gpus=lambda: 9)
base = Space(MXNetError=RuntimeError)
Context = lambda kind, index: f"{kind}({index})"
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of a stub of NVIDIA's driver, for LD_LIBRARY_PATH."""
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def gpus(monkeypatch):
    """Patch MXNet to be the CUDA wheel, and the driver to report the given GPUs."""

    def patch(*reported, counted=None, cuda=True):
        features = SimpleNamespace(is_enabled=lambda name: cuda and name == "CUDA")
        count = len(reported) if counted is None else counted
        monkeypatch.setattr(mx.runtime, "Features", lambda: features)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.setattr(devices, "_gpus", lambda: list(reported))
        monkeypatch.setattr(devices, "_chosen", [])  # no GPU outlives the test

    return patch


A10 = Gpu("NVIDIA A10", (8, 6))
L4 = Gpu("NVIDIA L4", (8, 9))


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
    gpus(A10, L4)
    assert devices.contexts("gpu(1),gpu(0)") == [mx.gpu(1), mx.gpu(0)]


def why_not(text):
    """Return the error of contexts that are not usable."""
    with pytest.raises(XenonError) as caught:
        devices.contexts(text)
    return str(caught.value)


def test_gpu_of_the_cpu_wheel_is_told_the_other_wheel(gpus):
    gpus(A10, cuda=False)
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): this is MXNet's CPU wheel; for a GPU: pip uninstall mxnet, then "
        "pip install '.[gpu]' in a checkout of xenon; or use --ctx 'cpu()'"
    )


def test_gpu_without_any_is_sent_to_nvidia_smi(gpus):
    gpus()
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): NVIDIA's driver reports no GPU; check with nvidia-smi; or "
        "use --ctx 'cpu()'"
    )


def test_gpu_beyond_the_last_is_told_the_highest(gpus):
    gpus(A10, L4)
    assert why_not("gpu(0),gpu(2)") == (
        "--ctx gpu(2): there is no such GPU: the highest is gpu(1); or use --ctx "
        "'cpu()'"
    )


@pytest.mark.parametrize("capability", [(3, 7), (4, 9), (9, 0), (10, 0), (12, 0)])
def test_gpu_without_code_in_the_wheel_is_refused(gpus, capability):
    gpus(A10, Gpu("NVIDIA X", capability))
    assert why_not("gpu(1)") == (
        f"--ctx gpu(1): NVIDIA X has compute capability {capability[0]}."
        f"{capability[1]}, but MXNet 1.9.1 supports only 5.0 to 8.9 (Maxwell to "
        "Ada): use such a GPU; or use --ctx 'cpu()'"
    )


@pytest.mark.parametrize("capability", [(5, 0), (6, 1), (7, 5), (8, 6), (8, 9)])
def test_gpu_with_code_in_the_wheel_is_taken(gpus, capability):
    gpus(Gpu("NVIDIA X", capability))
    assert devices.contexts("gpu(0)") == [mx.gpu(0)]


def test_gpu_that_mxnet_does_not_count_wants_a_newer_driver(gpus):
    gpus(A10, counted=0)
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): MXNet's CUDA 11 cannot use NVIDIA A10 with this driver: update "
        "NVIDIA's driver, to 450.80 or newer; or use --ctx 'cpu()'"
    )


def default(caplog):
    with caplog.at_level(logging.INFO, "xenon_mx.runtime.devices"):
        selected = devices.contexts(None)
    return selected, caplog.messages


def test_default_takes_the_first_gpu_and_says_so(gpus, caplog):
    gpus(A10, L4)
    assert default(caplog) == ([mx.gpu(0)], ["ctx: gpu(0)"])


def test_default_of_the_cpu_wheel_takes_the_cpu(gpus, caplog):
    gpus(cuda=False)
    assert default(caplog) == ([mx.cpu(0)], ["ctx: cpu(0)"])


def test_default_of_the_cpu_wheel_beside_a_gpu_warns(gpus, caplog):
    gpus(A10, cuda=False)
    selected, messages = default(caplog)
    assert selected == [mx.cpu(0)]
    assert messages == [
        "ctx: cpu(0), not a GPU: this is MXNet's CPU wheel; for a GPU: pip uninstall "
        "mxnet, then pip install '.[gpu]' in a checkout of xenon"
    ]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("reported", "counted", "reason"),
    [
        ([], 0, "reports no GPU"),
        ([Gpu("NVIDIA H100", (9, 0))], 1, "NVIDIA H100 has compute capability 9.0"),
        ([A10], 0, "update NVIDIA's driver"),
    ],
)
def test_default_without_a_usable_gpu_says_why(gpus, caplog, reported, counted, reason):
    gpus(*reported, counted=counted)
    selected, messages = default(caplog)
    assert selected == [mx.cpu(0)]
    assert messages[0].startswith("ctx: cpu(0), not a GPU: ")
    assert reason in messages[0]


# The driver


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", []),
        ("NVIDIA A10:8.6", [A10]),
        (
            "NVIDIA L4:8.9,NVIDIA RTX PRO 6000:12.0",
            [L4, Gpu("NVIDIA RTX PRO 6000", (12, 0))],
        ),
    ],
)
def test_gpus_are_what_the_driver_reports(site, driver, listed, expected):
    printed = output(
        "from xenon_mx.runtime import devices; print(devices._gpus())",
        site,
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    assert printed == str(expected)


def test_the_gpus_that_were_chosen_give_their_memory_back(gpus, monkeypatch):
    gpus(("A", (8, 6)), ("B", (8, 6)), ("C", (8, 6)))
    emptied = []
    monkeypatch.setattr(mx.Context, "empty_cache", lambda ctx: emptied.append(str(ctx)))
    devices.contexts("cpu()")
    devices.release_memory()
    assert emptied == []
    devices.contexts("gpu(0),gpu(2)")
    assert devices.last_chosen() == "gpu(0),gpu(2)"
    devices.release_memory()
    assert emptied == ["gpu(0)", "gpu(2)"]


def test_gpus_without_a_driver_are_none(monkeypatch):
    def missing():
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(devices, "_cuda_driver", missing)
    assert devices._gpus() == []


@pytest.mark.parametrize("listed", ["NVIDIA A10:8.6", "NVIDIA L4:8.9"])
def test_a_gpu_from_ampere_to_ada_is_taken_from_the_driver(site, driver, listed):
    install(site, "mxnet-cu112", CUDA_MXNET)
    printed = output(
        "from xenon_mx.runtime import devices; print(devices.contexts(None))",
        site,
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    assert printed == "['gpu(0)']"


@pytest.mark.parametrize("listed", ["NVIDIA H100 80GB HBM3:9.0", "Tesla K80:3.7"])
def test_a_hopper_or_kepler_is_refused_from_the_driver(site, driver, listed):
    install(site, "mxnet-cu112", CUDA_MXNET)
    message = refusal(
        site,
        "from xenon_mx.runtime import devices; devices.contexts('gpu(0)')",
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    name, capability = listed.split(":")
    assert message.startswith(
        f"--ctx gpu(0): {name} has compute capability {capability}, but MXNet 1.9.1 "
        "supports only 5.0 to 8.9"
    )
