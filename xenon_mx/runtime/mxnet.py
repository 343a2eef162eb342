"""Import of MXNet and gluoncv, with the workarounds that MXNet 1.9.1 needs.

    from xenon_mx.runtime.mxnet import gluon, mx

MXNet was retired in 2023 and does not fit newer libraries. Importing it through this
module restores the NumPy names that it uses, loads the CUDA libraries that its wheel
lacks, and enables all cores; an import that still fails is a `XenonError` with a
remedy. Owns the import, MXNet's process-wide settings and what its errors mean; must
not know devices, nets or commands.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import importlib
import importlib.util
import os
import platform
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, Iterator, NoReturn

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime import extras, memory, mxnet_build
from xenon_mx.runtime.threads import usable_cores

_MODULES = {
    "mx": "mxnet",
    "nd": "mxnet.ndarray",
    "autograd": "mxnet.autograd",
    "gluon": "mxnet.gluon",
    "nn": "mxnet.gluon.nn",
    "amp": "mxnet.contrib.amp",
    "loss_scaler": "mxnet.contrib.amp.loss_scaler",
    "exporter": "mxnet.onnx",
    "model_zoo": "gluoncv.model_zoo",
}

# In an order in which each library finds its dependencies already loaded, read off the
# ELF headers of NVIDIA's CUDA 11 wheels. cuDNN opens its other parts by itself.
_CUDA_LIBRARIES = (
    "cuda_runtime/lib/libcudart.so.11.0",
    "cuda_nvrtc/lib/libnvrtc.so.11.2",
    "cublas/lib/libcublasLt.so.11",
    "cublas/lib/libcublas.so.11",
    "cufft/lib/libcufft.so.10",
    "curand/lib/libcurand.so.10",
    "cusparse/lib/libcusparse.so.11",
    "cusolver/lib/libcusolver.so.11",
    "nccl/lib/libnccl.so.2",
    "nvtx/lib/libnvToolsExt.so.1",
    "cudnn/lib/libcudnn.so.8",
)

# Variables of the environment that this module has set.
_own_variables: set[str] = set()


def __getattr__(name: str) -> Any:
    """Import a module of MXNet or gluoncv, by its name in `_MODULES`, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():
        # Deprecations of the newer Python and NumPy, which no user can act on.
        warnings.simplefilter("ignore")
        _load_mxnet()
        if name == "model_zoo":  # gluoncv would hide why OpenCV cannot be loaded
            importlib.import_module("xenon_mx.runtime.opencv")
        try:
            with _without_torch():
                module = importlib.import_module(_MODULES[name])
        except ModuleNotFoundError as error:
            raise XenonError(
                f"{error.name} is not installed: {extras.install('zoo')}"
            ) from error
    globals()[name] = module
    return module


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hide torch, which gluoncv would import, and of which it rejects version 2."""
    torch = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
        if torch is not None:
            sys.modules["torch"] = torch


def _load_mxnet() -> None:
    if "mxnet" in sys.modules:
        return
    memory.check(memory.MXNET)
    build = mxnet_build.installed()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise XenonError(
            f"NumPy {np.__version__} is too new for MXNet: pip install 'numpy<2'"
        )
    _restore_numpy_aliases()
    # MXNet would use half of the cores: it assumes two hardware threads per core.
    set_default("OMP_NUM_THREADS", usable_cores())
    # One operator computes at a time, and needs one scratch buffer of the default of
    # four, each as large as the largest that a convolution has asked for.
    set_default("MXNET_CPU_TEMP_COPY", 1)
    _keep_freed_memory()
    try:
        if "-cu" in build.name:
            _load_cuda_libraries()
        with _without_role() as role, _crashing_on_segfaults():
            importlib.import_module("mxnet")
    except (ImportError, OSError) as error:
        raise XenonError(_why_no_import(error, build)) from error
    if role not in (None, "worker"):
        _serve()


@contextlib.contextmanager
def _without_role() -> Iterator[str | None]:
    """Hide DMLC_ROLE, and yield it.

    MXNet imported as a server starts to serve, and unpickles whatever is sent to its
    port: that runs the sender's code.
    """
    role = os.environ.pop("DMLC_ROLE", None)
    try:
        yield role
    finally:
        if role is not None:
            os.environ["DMLC_ROLE"] = role


@contextlib.contextmanager
def _crashing_on_segfaults() -> Iterator[None]:
    """Keep the handler of SIGSEGV, which MXNet replaces by one that calls exit().

    What exit() runs waits for the other workers for ever, in a process whose status
    would tell nobody that it crashed.
    """
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    set_handler.restype = ctypes.c_void_p
    handler = set_handler(signal.SIGSEGV, None)
    try:
        yield
    finally:
        set_handler(signal.SIGSEGV, handler)


def serve() -> NoReturn:
    """Run the scheduler or server that DMLC_ROLE names, then exit.

    Importing MXNet through this module with such a DMLC_ROLE does the same, as
    importing MXNet itself does: xenon 0.1.0 had its servers started that way.

    Raises:
        XenonError: The address or the network interface is not usable.
    """
    _load_mxnet()
    _serve()


def _serve() -> NoReturn:
    mx = sys.modules["mxnet"]
    try:
        kvstore = mx.kv.create("dist")
        callback_type = ctypes.CFUNCTYPE(
            None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
        )
        mx.base.check_call(
            mx.base._LIB.MXKVStoreRunServer(
                kvstore.handle, callback_type(_reject_command), None
            )
        )
    except mx.base.MXNetError as error:
        host, port = (os.environ.get(f"DMLC_PS_ROOT_{key}") for key in ("URI", "PORT"))
        raise XenonError(
            f"MXNet cannot serve, with the scheduler at {host}, port {port}: "
            f"{reason(error)}"
        ) from error
    sys.exit()


def _reject_command(command: int, *_: object) -> None:
    """Reject a command received over the network, and warn.

    Command 0 carries a pickled optimizer; `training.optimizers` runs the optimizer in
    the workers.
    """
    with contextlib.suppress(Exception):  # a broken standard error must not end serving
        sys.stderr.write(
            f"warning: refused command {command} from the network, which xenon never "
            f"sends: somebody else has access to this server\n"
        )


def reason(error: Exception) -> str:
    """Return the last line of an MXNetError, which states its reason."""
    last = str(error).strip().splitlines()[-1]
    return last.split("Check failed: ")[-1].split(": ", 1)[-1].strip()


def share_cores(nets: int) -> None:
    """Divide the cores among several nets that compute at the same time.

    An operator on all cores waits at its end for the slowest of them; operators of
    different nets need not wait for one another. No effect once MXNet is loaded, or if
    OMP_NUM_THREADS is set.

    Args:
        nets: How many nets compute at the same time.
    """
    if "mxnet" in sys.modules or "OMP_NUM_THREADS" in os.environ:
        return
    cores = usable_cores()
    threads = -(-cores // nets)
    set_default("OMP_NUM_THREADS", threads)
    set_default("MXNET_CPU_WORKER_NTHREADS", cores // threads)
    # Operators take turns on MXNet's scratch buffers. With the default of 4, two equal
    # nets can block each other on the same one: 168 convolutions of DenseNet169 are
    # 0 mod 4.
    set_default("MXNET_CPU_TEMP_COPY", 16)


def set_default(name: str, value: int) -> None:
    """Set a variable of the environment that the user has not set."""
    if name not in os.environ:
        os.environ[name] = str(value)
        _own_variables.add(name)


def is_own(name: str) -> bool:
    """Return whether this module has set a variable of the environment."""
    return name in _own_variables


def environment_of_child() -> dict[str, str]:
    """Return the environment for a process that loads MXNet by itself.

    It is this process's own, without what this module has set for its own work, and
    without the role in a process group (DMLC_*): the child joins none.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _own_variables and not name.startswith("DMLC_")
    }


def _keep_freed_memory() -> None:
    """Keep freed memory in the process, so that the kernel need not clear it again.

    By default glibc returns every large array, and a training step frees dozens. The
    numbers are from glibc's malloc.h; other C libraries have no such settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
    mallopt(-8, 1)  # M_ARENA_MAX: arenas of threads hold no array above 64 MB


def _restore_numpy_aliases() -> None:
    """Restore the aliases of Python's types that NumPy 1.24 removed."""
    for name in ("bool", "int", "float", "complex", "object", "str"):
        # Looked up in the dict: in older versions, getattr emits a warning.
        if name not in np.__dict__:
            setattr(np, name, getattr(builtins, name))


def _load_cuda_libraries() -> None:
    """Load the CUDA 11 libraries of NVIDIA's wheels, if they are installed."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or []) if spec else []
    for library in _CUDA_LIBRARIES:
        for file in (Path(root) / library for root in roots):
            if file.is_file():
                # Global, so that libmxnet.so finds the symbols without an RPATH.
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


def _why_no_import(error: Exception, build: mxnet_build.Build) -> str:
    """Return why MXNet cannot be imported, with a remedy."""
    text, wheel = str(error), build.name
    if memory.is_out_of_memory(error):
        return memory.out_of_memory_message()
    if "libcuda.so" in text:
        return (
            f"{wheel} needs NVIDIA's driver (libcuda.so.1), which is not installed: "
            f"install it (for a container: docker run --gpus all), or use the CPU "
            f"wheel: pip uninstall {wheel}, then "
            f"{extras.install('cpu')}"
        )
    library = re.search(r"(lib\S+): cannot open", text)
    if library and re.match("lib(cu|nccl|nvrtc|nvTools)", library.group(1)):
        if mxnet_build.capabilities(build):
            return f"{wheel} lacks CUDA's {library.group(1)}: {extras.install('gpu')}"
        return (
            f"{build} lacks CUDA's {library.group(1)}: install the CUDA that it was "
            f"built for, and name its folder in LD_LIBRARY_PATH"
        )
    if library:
        return (
            f"{wheel} needs the system's {library.group(1)}: install it (on Debian and "
            f"Ubuntu: apt-get install libgomp1 libquadmath0)"
        )
    if "distutils" in text:
        return "MXNet needs distutils on Python 3.12: pip install 'setuptools<80'"
    return f"{wheel} cannot be imported: {text}; reinstall it: {mxnet_build.INSTALL}"


def seed(number: int) -> None:
    """Seed MXNet's generators on every device (initializers, Dropout)."""
    __getattr__("mx").random.seed(number)
    np.random.seed(number % 2**32)  # some of MXNet's initializers use NumPy's generator


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Convert the MXNet errors that a user can fix to `XenonError`."""
    error_class = __getattr__("mx").base.MXNetError
    try:
        yield
    except error_class as error:
        text = str(error)
        if "out of memory" in text or "STATUS_ALLOC_FAILED" in text:
            raise XenonError(
                "the GPU's memory is full: use a smaller --batch-size or another "
                "--ctx, and check with nvidia-smi which other programs use it"
            ) from error
        if "no kernel image" in text:
            raise XenonError(
                "this MXNet has no machine code for this GPU: see Devices in "
                "docs/training.md, or use --ctx 'cpu()'"
            ) from error
        if memory.is_out_of_memory(error):
            raise XenonError(
                f"{memory.out_of_memory_message()}; a smaller --batch-size needs less"
            ) from error
        raise
