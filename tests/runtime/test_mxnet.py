"""The import of MXNet: what it needs, what is reported if it fails, what errors mean.

Most tests run a new interpreter whose site-packages contain NumPy, xenon and a stub of
MXNet, because this process has MXNet imported already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.cuda_stub import build_library
from support.fresh_python import IMPORT, install, output, refusal, run
from support.paths import ROOT

from xenon_mx.errors import XenonError
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.threads import usable_cores

OLD_NAMES = ("bool", "int", "float", "complex", "object", "str")


# Before the import


def test_the_module_alone_does_not_import_mxnet():
    code = "import sys, xenon_mx.runtime.mxnet; print('mxnet' in sys.modules)"
    assert output(code) == "False"


def test_other_names_are_unknown():
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
from xenon_mx.runtime import mxnet
mxnet.usable_cores = lambda: {cores}
mxnet.share_cores({nets})
{IMPORT}
print(os.environ["OMP_NUM_THREADS"], os.environ["MXNET_CPU_WORKER_NTHREADS"])
"""
    assert output(code, site).split() == [str(threads), str(at_once)]


def test_cores_are_not_shared_where_threads_were_set(site):
    install(site, "mxnet", "")
    code = f"""
import os
from xenon_mx.runtime import mxnet
mxnet.share_cores(5)
{IMPORT}
print(os.environ["OMP_NUM_THREADS"], "MXNET_CPU_WORKER_NTHREADS" in os.environ)
"""
    assert output(code, site, OMP_NUM_THREADS="3").split() == ["3", "False"]


def test_memory_that_is_freed_is_kept(site):
    """256 MB freed by one thread are reused without a page fault for each page."""
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
    install(site, "mxnet")
    first, second = map(int, output(code, site).split())
    assert first > 2**28 / 4096 / 2
    assert second < first / 10


def test_cuda_libraries_are_loaded_before_the_cuda_wheel(site):
    files = [site / "nvidia" / library for library in mxnet._CUDA_LIBRARIES]
    for file in files:
        # As in NVIDIA's wheels, cuBLAS depends on a library loaded before it.
        needs = (
            [file.with_name("libcublasLt.so.11")] if "libcublas." in file.name else []
        )
        build_library(file, needs=needs)
    names = [file.name for file in files]
    code = f"import ctypes\nfor name in {names}: ctypes.CDLL(name)\nprint('found')"
    install(site, "mxnet-cu112", code)
    assert output(IMPORT, site) == "found"


def test_cuda_libraries_are_left_alone_by_the_cpu_wheel(site):
    cudnn = site / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8"
    cudnn.parent.mkdir(parents=True)
    cudnn.write_text("no library")
    install(site, "mxnet")
    assert output(IMPORT, site) == ""
    (site / "mxnet-1.9.1.dist-info").rename(site / "unused")
    install(site, "mxnet-cu112")
    assert "libcudnn.so.8" in refusal(site)


def test_a_segmentation_fault_ends_the_process_by_its_signal():
    """MXNet's handler calls exit(), where a worker waits for the others for ever."""
    code = f"{IMPORT}; import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    for flags in ([], ["-X", "faulthandler"]):
        done = subprocess.run(
            [sys.executable, *flags, "-c", code], capture_output=True, text=True
        )
        assert done.returncode == -signal.SIGSEGV
        assert ("Fatal Python error: Segmentation fault" in done.stderr) == bool(flags)


# Failures of the import


def test_no_mxnet_is_told_how_to_install_it(site):
    assert refusal(site) == (
        "MXNet is not installed: pip install '.[cpu]' in a checkout of xenon, or "
        "'.[gpu]' beside an NVIDIA GPU"
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
    assert message == (
        "gluoncv is not installed: pip install '.[zoo]' in a checkout of xenon"
    )


CANNOT_OPEN = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            f"OSError('libcuda.so.1: {CANNOT_OPEN}')",
            "mxnet-cu112 needs NVIDIA's driver (libcuda.so.1), which is not installed: "
            "install it (for a container: docker run --gpus all), or use the CPU "
            "wheel: pip uninstall mxnet-cu112, then pip install '.[cpu]' in a checkout "
            "of xenon",
        ),
        (
            f"OSError('libcudnn.so.8: {CANNOT_OPEN}')",
            "mxnet-cu112 lacks CUDA's libcudnn.so.8: pip install '.[gpu]' in a "
            "checkout of xenon",
        ),
        (
            f"OSError('libnvToolsExt.so.1: {CANNOT_OPEN}')",
            "mxnet-cu112 lacks CUDA's libnvToolsExt.so.1: pip install '.[gpu]' in a "
            "checkout of xenon",
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
            "install '.[cpu]' in a checkout of xenon, or '.[gpu]' beside an NVIDIA GPU",
        ),
    ],
    ids=["driver", "cudnn", "nvtx", "gomp", "distutils", "other"],
)
def test_a_failed_import_says_what_to_do(site, error, expected):
    install(site, "mxnet-cu112", f"raise {error}")
    assert refusal(site) == expected


def test_a_build_of_someone_elses_is_not_told_to_install_xenons(site):
    install(site, "mxnet", f"raise OSError('libcudnn.so.9: {CANNOT_OPEN}')")
    assert refusal(site) == (
        "mxnet 1.9.1 lacks CUDA's libcudnn.so.9: install the CUDA that it was built "
        "for, and name its folder in LD_LIBRARY_PATH"
    )


def test_a_cuda_library_that_another_needs_is_named(site):
    # Linked against the dependency, so that the loader itself reports its absence.
    cublas = site / "nvidia/cublas/lib/libcublas.so.11"
    build_library(cublas)
    build_library(site / "nvidia/cusolver/lib/libcusolver.so.11", needs=[cublas])
    cublas.unlink()
    install(site, "mxnet-cu112")
    assert refusal(site) == (
        "mxnet-cu112 lacks CUDA's libcublas.so.11: pip install '.[gpu]' in a checkout "
        "of xenon"
    )


# Errors of MXNet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cudaMalloc retry failed: out of memory", "use a smaller --batch-size"),
        ("Check failed: e == cudaSuccess (2 vs. 0) : out of memory", "memory is full"),
        ("cuDNN: CUDNN_STATUS_ALLOC_FAILED", "the GPU's memory is full"),
        (
            "no kernel image is available for execution on the device",
            r"no machine code for this GPU.*--ctx 'cpu\(\)'",
        ),
    ],
)
def test_an_error_that_a_user_can_fix_says_how(text, expected):
    error = mx.base.MXNetError(f"[10:00:00] src/x.cc:1: {text}\nStack trace:\n  [bt]")
    with pytest.raises(XenonError, match=expected) as caught, mxnet.failures():
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_a_failure_of_mxnet_that_is_a_bug_passes_unchanged():
    with pytest.raises(mx.base.MXNetError, match="shape"), mxnet.failures():
        (mx.nd.ones((2, 3)) + mx.nd.ones((4, 5))).wait_to_read()


def test_a_bug_that_cuda_reports_at_an_allocation_passes_unchanged():
    # CUDA reports an error of a kernel at whichever call comes next.
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
    """If torch is installed, gluoncv imports it, and rejects version 2."""
    (tmp_path / "torch.py").write_text("__version__ = '2.5.0'\n")
    code = "from xenon_mx.runtime.mxnet import model_zoo; import torch; print(torch)"
    printed = output(code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert str(tmp_path / "torch.py") in printed


@pytest.mark.parametrize("module", ["data.images", "models.network"])
def test_opencv_without_its_libraries_says_what_to_install(tmp_path, module):
    missing = "libGL.so.1: cannot open shared object file"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({missing!r})\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    message = refusal(None, f"import xenon_mx.{module}", PYTHONPATH=path)
    assert "libGL.so.1" in message
    assert "apt-get install libgl1 libglib2.0-0" in message
