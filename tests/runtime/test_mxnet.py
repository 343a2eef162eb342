"""The door to MXNet: what stands before its import, devices, what failures mean.

Most tests run a fresh interpreter whose site-packages hold NumPy, xenon and a stub of
MXNet: what is imported when, and from which wheel, cannot be shown in this one.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.cuda_stub import build_driver, build_library

import xenon_mx
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.mxnet import Gpu, mx
from xenon_mx.runtime.threads import usable_cores

ROOT = Path(xenon_mx.__file__).parents[1]
IMPORT = "from xenon_mx.runtime.mxnet import mx"

# As much of the CUDA wheel as `contexts` asks for.
CUDA_MXNET = """
from types import SimpleNamespace as Space
runtime = Space(Features=lambda: Space(is_enabled=lambda name: name == "CUDA"))
context = Space(num_gpus=lambda: 9)
base = Space(MXNetError=RuntimeError)
Context = lambda kind, index: f"{kind}({index})"
"""
OLD_NAMES = ("bool", "int", "float", "complex", "object", "str")


def run(code, site=None, flags=(), **variables):
    """Run a fresh interpreter, on a site-packages of its own if there is one."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    }
    if site:
        flags = ["-S", *flags]
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=site or ROOT,
        env={**ours, "PYTHONPATH": str(site or ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(code, site=None, **options):
    """What the code prints, and nothing beside it."""
    result = run(code, site, **options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


def refusal(site, code=IMPORT, **variables):
    """The one sentence of the XenonError that ends the code."""
    result = run(code, site, **variables)
    assert result.returncode == 1, result.stdout
    kind, _, message = result.stderr.strip().split("\n")[-1].partition(": ")
    assert kind == "xenon_mx.errors.XenonError", result.stderr
    return message


@pytest.fixture
def site(tmp_path):
    """A site-packages with NumPy and xenon, and no MXNet."""
    folder = tmp_path / "site"
    folder.mkdir()
    numpy = Path(np.__file__).parent
    for place in (numpy, numpy.with_name("numpy.libs"), ROOT / "xenon_mx"):
        if place.exists():
            (folder / place.name).symlink_to(place)
    return folder


def install(site, wheel, code=""):
    """Put a stub of an MXNet wheel into a site-packages."""
    (site / "mxnet").mkdir(exist_ok=True)
    (site / "mxnet" / "__init__.py").write_text(code)
    info = site / f"{wheel.replace('-', '_')}-1.9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 1.9.1\n"
    )


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of a stub of NVIDIA's driver, for LD_LIBRARY_PATH."""
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def gpus(monkeypatch):
    """Let this MXNet be the CUDA wheel, and the driver list some GPUs."""

    def pretend(*found, counted=None, cuda=True):
        features = SimpleNamespace(is_enabled=lambda name: cuda and name == "CUDA")
        count = len(found) if counted is None else counted
        monkeypatch.setattr(mx.runtime, "Features", lambda: features)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.setattr(mxnet, "_gpus", lambda: list(found))

    return pretend


A10 = Gpu("NVIDIA A10", (8, 6))
L4 = Gpu("NVIDIA L4", (8, 9))


# --ctx


@pytest.mark.parametrize(
    ("text", "devices"),
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
def test_parse_ctx_reads_the_words_of_mxnet(text, devices):
    assert mxnet.parse_ctx(text) == devices


@pytest.mark.parametrize(
    "text",
    "|,|tpu|gpu(0|gpu0)|gpu(-1)|gpu(a)|gpu:|gpu:(0)|GPU(0)|0|gpu(0),|gpu(0);gpu(1)|"
    "mx.gpu(0)|cpu_pinned(0)|gpu(0)gpu(1)|cpu(\N{ARABIC-INDIC DIGIT THREE})".split("|"),
)
def test_parse_ctx_refuses_other_words_by_what_to_write(text):
    with pytest.raises(ConfigError, match=r"write cpu\(\), gpu\(0\) or") as caught:
        mxnet.parse_ctx(text)
    assert caught.value.flag == "--ctx"
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["gpu(1),gpu1", "cpu,cpu()", "gpu,gpu(0)"])
def test_parse_ctx_refuses_a_device_named_twice(text):
    with pytest.raises(ConfigError, match="twice"):
        mxnet.parse_ctx(text)


@pytest.mark.parametrize(
    "number", ["1000", str(2**31 - 1), str(2**31), str(2**64), "9" * 5000]
)
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_parse_ctx_refuses_devices_for_which_mxnet_would_take_all_memory(kind, number):
    """It keeps a place for each device up to the one that is used."""
    for text in (f"{kind}({number})", f"{kind}{number}"):
        with pytest.raises(ConfigError, match="the highest is 999") as caught:
            mxnet.parse_ctx(text)
        assert caught.value.flag == "--ctx"


def test_parse_ctx_refuses_cpu_beside_gpu():
    with pytest.raises(ConfigError, match="mixes"):
        mxnet.parse_ctx("cpu(),gpu(0)")


# What stands before the import


def test_engine_alone_does_not_import_mxnet():
    code = "import sys, xenon_mx.runtime.mxnet; print('mxnet' in sys.modules)"
    assert output(code) == "False"


def test_names_that_engine_does_not_give_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'gloun'"):
        mxnet.gloun  # noqa: B018


def test_a_fresh_interpreter_gets_all_names_without_a_warning():
    code = (
        "from xenon_mx.runtime.mxnet import autograd, gluon, model_zoo, mx, nd, nn;"
        "print(mx.__version__, nd.ones(2).sum().asscalar(), model_zoo.__name__)"
    )
    result = run(code, flags=["-W", "error"])
    assert result.stdout.split() == ["1.9.1", "2.0", "gluoncv.model_zoo"]
    assert result.stderr == ""


def test_numpy_has_its_old_names_after_the_import():
    assert [np.__dict__[name].__name__ for name in OLD_NAMES] == list(OLD_NAMES)
    assert np.bool is bool


def test_numpy_has_its_old_names_before_the_import(site):
    names = ", ".join(f"numpy.{name}" for name in OLD_NAMES)
    install(site, "mxnet", f"import numpy\nprint([c.__name__ for c in ({names})])")
    assert output(IMPORT, site) == str(list(OLD_NAMES))


PRINT_THREADS = "import os\nprint(os.environ['OMP_NUM_THREADS'])"
ONE_CORE = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"


def test_threads_unset_become_the_usable_cores(site):
    install(site, "mxnet", PRINT_THREADS)
    assert output(IMPORT, site) == str(usable_cores())


def test_threads_unset_become_one_where_one_core_is_usable(site):
    install(site, "mxnet", PRINT_THREADS)
    assert output(f"{ONE_CORE}\n{IMPORT}", site) == "1"


def test_threads_set_are_left_alone(site):
    install(site, "mxnet", PRINT_THREADS)
    assert output(IMPORT, site, OMP_NUM_THREADS="7") == "7"


@pytest.mark.parametrize(
    ("cores", "nets", "threads", "at_once"),
    [
        (2, 5, 1, 2),
        (2, 1, 2, 1),
        (1, 5, 1, 1),
        (8, 5, 2, 4),
        (16, 5, 4, 4),
        (4, 2, 2, 2),
    ],
)
def test_nets_share_the_cores(site, cores, nets, threads, at_once):
    install(site, "mxnet", "")
    code = f"""
import os
from xenon_mx.runtime import mxnet as engine
engine.usable_cores = lambda: {cores}
engine.share_cores({nets})
{IMPORT}
print(os.environ["OMP_NUM_THREADS"], os.environ["MXNET_CPU_WORKER_NTHREADS"])
"""
    assert output(code, site).split() == [str(threads), str(at_once)]


def test_cores_are_not_shared_where_threads_were_set(site):
    install(site, "mxnet", "")
    code = f"""
import os
from xenon_mx.runtime import mxnet as engine
engine.share_cores(5)
{IMPORT}
print(os.environ["OMP_NUM_THREADS"], "MXNET_CPU_WORKER_NTHREADS" in os.environ)
"""
    assert output(code, site, OMP_NUM_THREADS="3").split() == ["3", "False"]


def test_memory_that_is_freed_is_kept():
    """256 MB that a thread frees come again without a page fault for each page."""
    code = f"""
{IMPORT}
import ctypes, resource, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(2**28))
    libc.memset(block, 1, 2**28)
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
for _ in range(2):
    thread = threading.Thread(target=faults)
    thread.start()
    thread.join()
"""
    first, second = map(int, output(code).split())
    assert first > 2**28 / 4096 / 2
    assert second < first / 10


def test_cuda_libraries_are_loaded_before_the_cuda_wheel(site):
    places = [site / "nvidia" / library for library in mxnet._CUDA_LIBRARIES]
    for place in places:
        # As in NVIDIA's wheels, cuBLAS needs a library that is loaded before it.
        needs = (
            [place.with_name("libcublasLt.so.11")] if "libcublas." in place.name else []
        )
        build_library(place, needs=needs)
    names = [place.name for place in places]
    code = f"import ctypes\nfor name in {names}: ctypes.CDLL(name)\nprint('found')"
    install(site, "mxnet-cu112", code)
    assert output(IMPORT, site) == "found"


def test_cuda_libraries_are_left_alone_by_the_cpu_wheel(site):
    place = site / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8"
    place.parent.mkdir(parents=True)
    place.write_text("no library")
    install(site, "mxnet")
    assert output(IMPORT, site) == ""
    (site / "mxnet-1.9.1.dist-info").rename(site / "unused")
    install(site, "mxnet-cu112")
    assert "libcudnn.so.8" in refusal(site)


# What keeps MXNet from being imported


def test_no_mxnet_is_told_how_to_install_it(site):
    assert refusal(site) == (
        "MXNet is not installed: pip install 'xenon-mx[cpu]', "
        "or 'xenon-mx[gpu]' beside an NVIDIA GPU"
    )


def test_an_empty_folder_named_mxnet_is_no_mxnet(site):
    (site / "mxnet").mkdir()
    assert "MXNet is not installed" in refusal(site)


def test_mxnet_built_from_source_is_taken(site):
    (site / "mxnet").mkdir()
    (site / "mxnet" / "__init__.py").write_text("print('built here')")
    assert output(IMPORT, site) == "built here"


def test_both_wheels_are_refused(site):
    install(site, "mxnet")
    install(site, "mxnet-cu112")
    assert refusal(site).startswith(
        "mxnet and mxnet-cu112 are both installed and overwrite one another: "
        "uninstall both, then pip install"
    )


def test_numpy_2_is_refused(site):
    install(site, "mxnet")
    code = f"import numpy; numpy.__version__ = '2.1.3'\n{IMPORT}"
    assert refusal(site, code) == (
        "NumPy 2.1.3 is too new for MXNet: pip install 'numpy<2'"
    )


def test_no_gluoncv_is_told_how_to_install_it(site):
    install(site, "mxnet")
    (site / "cv2.py").write_text("")
    message = refusal(site, "from xenon_mx.runtime.mxnet import model_zoo")
    assert message.startswith("gluoncv is not installed: pip install")


CANNOT_OPEN = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            f"OSError('libcuda.so.1: {CANNOT_OPEN}')",
            "mxnet-cu112 needs NVIDIA's driver (libcuda.so.1), which is not installed: "
            "install the driver, or use the CPU wheel: pip uninstall mxnet-cu112, then "
            "pip install 'xenon-mx[cpu]'",
        ),
        (
            f"OSError('libcudnn.so.8: {CANNOT_OPEN}')",
            "mxnet-cu112 misses CUDA's libcudnn.so.8: pip install 'xenon-mx[gpu]'",
        ),
        (
            f"OSError('libnvToolsExt.so.1: {CANNOT_OPEN}')",
            "mxnet-cu112 misses CUDA's libnvToolsExt.so.1: pip install 'xenon-mx[gpu]'",
        ),
        (
            f"OSError('libgomp.so.1: {CANNOT_OPEN}')",
            "mxnet-cu112 needs the system's libgomp.so.1: install it (on Debian and "
            "Ubuntu: apt-get install libgomp1 libquadmath0)",
        ),
        (
            "ModuleNotFoundError(\"No module named 'distutils'\")",
            "MXNet needs distutils on Python 3.12: pip install 'setuptools<80'",
        ),
        (
            "ImportError('half of it is gone')",
            "mxnet-cu112 cannot be imported: half of it is gone; reinstall it: pip "
            "install 'xenon-mx[cpu]', or 'xenon-mx[gpu]' beside an NVIDIA GPU",
        ),
    ],
    ids=["driver", "cudnn", "nvtx", "gomp", "distutils", "other"],
)
def test_a_failed_import_says_what_to_do(site, error, said):
    install(site, "mxnet-cu112", f"raise {error}")
    assert refusal(site) == said


def test_a_cuda_library_that_another_needs_is_named(site):
    # A real one, that the loader finds wanting before MXNet is imported at all.
    cublas = site / "nvidia/cublas/lib/libcublas.so.11"
    build_library(cublas)
    build_library(site / "nvidia/cusolver/lib/libcusolver.so.11", needs=[cublas])
    cublas.unlink()
    install(site, "mxnet-cu112")
    assert refusal(site) == (
        "mxnet-cu112 misses CUDA's libcublas.so.11: pip install 'xenon-mx[gpu]'"
    )


# Devices


def test_contexts_gives_the_cpu():
    assert mxnet.contexts("cpu()") == [mx.cpu(0)]


def test_contexts_gives_every_gpu_named(gpus):
    gpus(A10, L4)
    assert mxnet.contexts("gpu(1),gpu(0)") == [mx.gpu(1), mx.gpu(0)]


def why_not(text):
    with pytest.raises(XenonError) as caught:
        mxnet.contexts(text)
    return str(caught.value)


def test_gpu_of_the_cpu_wheel_is_told_the_other_wheel(gpus):
    gpus(A10, cuda=False)
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): this is MXNet's CPU wheel; for a GPU: pip uninstall mxnet, then "
        "pip install 'xenon-mx[gpu]'; or use --ctx 'cpu()'"
    )


def test_gpu_without_any_is_sent_to_nvidia_smi(gpus):
    gpus()
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): NVIDIA's driver reports no GPU; see what nvidia-smi says; or "
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
        f"{capability[1]}, and MXNet 1.9.1 holds code for 5.0 to 8.9 only (Maxwell to "
        "Ada): use such a GPU; or use --ctx 'cpu()'"
    )


@pytest.mark.parametrize("capability", [(5, 0), (6, 1), (7, 5), (8, 6), (8, 9)])
def test_gpu_with_code_in_the_wheel_is_taken(gpus, capability):
    gpus(Gpu("NVIDIA X", capability))
    assert mxnet.contexts("gpu(0)") == [mx.gpu(0)]


def test_gpu_that_mxnet_does_not_count_wants_a_newer_driver(gpus):
    gpus(A10, counted=0)
    assert why_not("gpu(0)") == (
        "--ctx gpu(0): MXNet's CUDA 11 cannot use NVIDIA A10 with this driver: update "
        "NVIDIA's driver, to 450.80 or newer; or use --ctx 'cpu()'"
    )


def default(caplog):
    with caplog.at_level(logging.INFO, "xenon_mx.runtime.mxnet"):
        taken = mxnet.contexts(None)
    return taken, caplog.messages


def test_default_takes_the_first_gpu_and_says_so(gpus, caplog):
    gpus(A10, L4)
    assert default(caplog) == ([mx.gpu(0)], ["ctx: gpu(0)"])


def test_default_of_the_cpu_wheel_takes_the_cpu_and_says_why(gpus, caplog):
    gpus(cuda=False)
    taken, said = default(caplog)
    assert taken == [mx.cpu(0)]
    assert len(said) == 1
    assert said[0].startswith("ctx: cpu(0) (this is MXNet's CPU wheel; for a GPU: ")


@pytest.mark.parametrize(
    ("found", "counted", "why"),
    [
        ([], 0, "reports no GPU"),
        ([Gpu("NVIDIA H100", (9, 0))], 1, "NVIDIA H100 has compute capability 9.0"),
        ([A10], 0, "update NVIDIA's driver"),
    ],
)
def test_default_without_a_usable_gpu_says_why(gpus, caplog, found, counted, why):
    gpus(*found, counted=counted)
    taken, said = default(caplog)
    assert taken == [mx.cpu(0)]
    assert said[0].startswith("ctx: cpu(0) (")
    assert why in said[0]


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
    said = output(
        "from xenon_mx.runtime import mxnet as engine; print(engine._gpus())",
        site,
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    assert said == str(expected)


def test_gpus_without_a_driver_are_none(monkeypatch):
    def missing():
        raise OSError(f"libcuda.so.1: {CANNOT_OPEN}")

    monkeypatch.setattr(mxnet, "_cuda_driver", missing)
    assert mxnet._gpus() == []


@pytest.mark.parametrize("listed", ["NVIDIA A10:8.6", "NVIDIA L4:8.9"])
def test_a_gpu_from_ampere_to_ada_is_taken_from_the_driver(site, driver, listed):
    install(site, "mxnet-cu112", CUDA_MXNET)
    said = output(
        "from xenon_mx.runtime import mxnet as engine; print(engine.contexts(None))",
        site,
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    assert said == "['gpu(0)']"


@pytest.mark.parametrize("listed", ["NVIDIA H100 80GB HBM3:9.0", "Tesla K80:3.7"])
def test_a_hopper_or_kepler_is_refused_from_the_driver(site, driver, listed):
    install(site, "mxnet-cu112", CUDA_MXNET)
    said = refusal(
        site,
        "from xenon_mx.runtime import mxnet as engine; engine.contexts('gpu(0)')",
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
    )
    name, capability = listed.split(":")
    assert said.startswith(
        f"--ctx gpu(0): {name} has compute capability {capability}, and MXNet 1.9.1 "
        "holds code for 5.0 to 8.9 only"
    )


# What a failure means


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cudaMalloc retry failed: out of memory", "use a smaller --batch-size"),
        ("Check failed: e == cudaSuccess (2 vs. 0) : out of memory", "memory is full"),
        ("cuDNN: CUDNN_STATUS_ALLOC_FAILED", "the GPU's memory is full"),
        (
            "no kernel image is available for execution on the device",
            r"holds no code for this GPU.*--ctx 'cpu\(\)'",
        ),
    ],
)
def test_a_failure_that_can_be_mended_says_how(text, said):
    error = mx.base.MXNetError(f"[10:00:00] src/x.cc:1: {text}\nStack trace:\n  [bt]")
    with pytest.raises(XenonError, match=said) as caught, mxnet.failures():
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_a_failure_of_mxnet_that_is_a_bug_passes_unchanged():
    with pytest.raises(mx.base.MXNetError, match="shape"), mxnet.failures():
        (mx.nd.ones((2, 3)) + mx.nd.ones((4, 5))).wait_to_read()


def test_a_bug_that_cuda_reports_at_an_allocation_passes_unchanged():
    # CUDA reports what went wrong in a kernel at whatever is called after it.
    error = mx.base.MXNetError("cudaMalloc failed: an illegal memory access")
    with pytest.raises(mx.base.MXNetError) as caught, mxnet.failures():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("out of memory"), KeyboardInterrupt()])
def test_a_failure_of_others_passes_unchanged(error):
    with pytest.raises(type(error)) as caught, mxnet.failures():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("number", [0, 2**32 + 5])
def test_seed_repeats_mxnet_and_numpy(number):
    def draw():
        mxnet.seed(number)
        return mx.nd.random.uniform(shape=3).asnumpy().tolist(), np.random.rand()

    assert draw() == draw()


def test_torch_beside_gluoncv_does_no_harm(tmp_path):
    """It imports torch where that is installed, and refuses version 2."""
    (tmp_path / "torch.py").write_text("__version__ = '2.5.0'\n")
    code = "from xenon_mx.runtime.mxnet import model_zoo; import torch; print(torch)"
    found = output(code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert str(tmp_path / "torch.py") in found


@pytest.mark.parametrize("module", ["data.images", "models.network"])
def test_opencv_without_its_libraries_says_what_to_install(tmp_path, module):
    missing = "libGL.so.1: cannot open shared object file"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({missing!r})\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    said = refusal(None, f"import xenon_mx.{module}", PYTHONPATH=path)
    assert "libGL.so.1" in said
    assert "apt-get install libgl1 libglib2.0-0" in said
