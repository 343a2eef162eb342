"""The only door to MXNet: what must stand before its import, devices, its failures.

    from xenon_mx.runtime.mxnet import gluon, mx

MXNet 1.9.1 was retired in 2023 and meets libraries and GPUs that it does not know.
Importing it through here gives it the NumPy names it expects, the CUDA libraries that
its wheel leaves out, and all of the cores; what still fails is a `XenonError` that
says what to do. Owns no knowledge of the task.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Iterator, NamedTuple, NoReturn

import numpy as np

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import memory
from xenon_mx.runtime.threads import usable_cores

_log = logging.getLogger(__name__)

_MODULES = {
    "mx": "mxnet",
    "nd": "mxnet.ndarray",
    "autograd": "mxnet.autograd",
    "gluon": "mxnet.gluon",
    "nn": "mxnet.gluon.nn",
    "exporter": "mxnet.onnx",
    "model_zoo": "gluoncv.model_zoo",
}

# The order in which each library finds the ones it needs already loaded, read off the
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

# The mxnet-cu112 1.9.1 wheel holds machine code for 5.0 to 8.6 and no PTX; 8.6 code
# also runs on 8.7 and 8.9. Nothing in it runs on Hopper (9.0) or Blackwell (10, 12).
_OLDEST_GPU = (5, 0)
_FIRST_GPU_TOO_NEW = (9, 0)

_INSTALL = "pip install 'xenon-mx[cpu]', or 'xenon-mx[gpu]' beside an NVIDIA GPU"
_CTX = re.compile(r"(cpu|gpu)(?:\(([0-9]*)\)|:?([0-9]+))?")
# MXNet keeps a list with a place for each device up to the highest that is used, which
# of cpu(2147483647) takes all memory. cpu(0), cpu(1), ... are the same cores.
_MOST_DIGITS = 3


def __getattr__(name: str) -> Any:
    """Give a module of MXNet or gluoncv by its name in `_MODULES`, when asked."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():
        # Retired code meets new Python: all it has to say is deprecated by now.
        warnings.simplefilter("ignore")
        _load_mxnet()
        if name == "model_zoo":  # gluoncv would hide why OpenCV cannot be loaded
            importlib.import_module("xenon_mx.runtime.opencv")
        try:
            with _without_torch():
                module = importlib.import_module(_MODULES[name])
        except ModuleNotFoundError as error:
            raise XenonError(f"{error.name} is not installed: {_INSTALL}") from error
    globals()[name] = module
    return module


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hide torch, which gluoncv would import, and of which it refuses version 2."""
    hidden = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
        if hidden is not None:
            sys.modules["torch"] = hidden


def _load_mxnet() -> None:
    if "mxnet" in sys.modules:
        return
    memory.check(memory.MXNET)
    wheel = _wheel()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise XenonError(
            f"NumPy {np.__version__} is too new for MXNet: pip install 'numpy<2'"
        )
    _name_numpy_types()
    # MXNet would take half of the cores: it counts on two threads a core.
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    _keep_memory()
    try:
        if "-cu" in wheel:
            _load_cuda_libraries()
        with _as_worker() as role:
            importlib.import_module("mxnet")
    except (ImportError, OSError) as error:
        raise XenonError(_why_no_import(error, wheel)) from error
    if role not in (None, "worker"):
        _serve()


@contextlib.contextmanager
def _as_worker() -> Iterator[str | None]:
    """Hide that this process is to be a scheduler or a server.

    When MXNet is imported by such a one, it begins to serve, and unpickles what anybody
    sends to its port: that runs whatever the sender likes.
    """
    role = os.environ.pop("DMLC_ROLE", None)
    try:
        yield role
    finally:
        if role is not None:
            os.environ["DMLC_ROLE"] = role


def play_role() -> NoReturn:
    """Be the scheduler or the server that DMLC_ROLE names, until the workers are done.

    So does the import of MXNet through here, as the import of MXNet itself would.

    Raises:
        XenonError: The address or the network interface cannot be used.
    """
    _load_mxnet()
    _serve()


def _serve() -> NoReturn:
    mx = sys.modules["mxnet"]
    try:
        store = mx.kv.create("dist")
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        mx.base.check_call(
            mx.base._LIB.MXKVStoreRunServer(store.handle, kind(_refuse_command), None)
        )
    except mx.base.MXNetError as error:
        root = [os.environ.get(f"DMLC_PS_ROOT_{name}") for name in ("URI", "PORT")]
        raise XenonError(
            f"MXNet cannot serve, with the scheduler at {root[0]}, port {root[1]}: "
            f"{reason(error)}"
        ) from error
    sys.exit()


def _refuse_command(command: int, *_: object) -> None:
    """Do not do what a server is told over the network beside adding numbers up.

    Command 0 is a pickled optimizer: `optimizers` keeps it with the workers.
    """
    with contextlib.suppress(Exception):  # a lost log ends nothing
        sys.stderr.write(
            f"warning: refused command {command} from the network, which xenon never "
            f"sends: somebody else reaches this server\n"
        )


def reason(error: Exception) -> str:
    """Give the last line of an MXNetError, where its reason is."""
    last = str(error).strip().splitlines()[-1]
    return last.split("Check failed: ")[-1].split(": ", 1)[-1].strip()


def share_cores(nets: int) -> None:
    """Let MXNet work on several nets at once, each on its share of the cores.

    An operator on all cores waits at its end for the slowest of them; operators of
    different nets need not wait for one another. Without effect once MXNet is loaded,
    or where OMP_NUM_THREADS is set.

    Args:
        nets: How many there are to work on at the same time.
    """
    if "mxnet" in sys.modules or "OMP_NUM_THREADS" in os.environ:
        return
    cores = usable_cores()
    threads = -(-cores // nets)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("MXNET_CPU_WORKER_NTHREADS", str(cores // threads))
    # Operators take turns on MXNet's scratch memory. With its 4 pieces, two nets alike
    # can meet at the same one for ever: 168 convolutions of DenseNet169 are 0 mod 4.
    os.environ.setdefault("MXNET_CPU_TEMP_COPY", "16")


def _keep_memory() -> None:
    """Keep freed memory, which the system would clear before it gives it again.

    By default glibc returns every large array, and a step of training frees dozens.
    The numbers are those of glibc's malloc.h; other libraries have no such settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
    mallopt(-8, 1)  # M_ARENA_MAX: those of threads hold no array above 64 MB


def _wheel() -> str:
    """Name the installed MXNet distribution."""
    found = {
        (dist.metadata["Name"] or "").lower()
        for dist in importlib.metadata.distributions()
    }
    wheels = sorted(name for name in found if re.fullmatch(r"mxnet(-\w+)?", name))
    if len(wheels) > 1:
        raise XenonError(
            f"{' and '.join(wheels)} are both installed and overwrite one another: "
            f"uninstall both, then {_INSTALL}"
        )
    if wheels:
        return wheels[0]
    spec = importlib.util.find_spec("mxnet")
    if spec is None or spec.origin is None:  # a folder of that name is no MXNet
        raise XenonError(f"MXNet is not installed: {_INSTALL}")
    return "mxnet"  # built from source


def _name_numpy_types() -> None:
    """Give back the aliases of Python's types that NumPy 1.24 removed."""
    for name in ("bool", "int", "float", "complex", "object", "str"):
        # Looked up in the dict: older versions answer getattr with a warning.
        if name not in np.__dict__:
            setattr(np, name, getattr(builtins, name))


def _load_cuda_libraries() -> None:
    """Load the CUDA 11 libraries from NVIDIA's wheels, where they are installed."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    for library in _CUDA_LIBRARIES:
        for file in (Path(place) / library for place in places):
            if file.is_file():
                # Global, so that libmxnet.so finds the symbols without an RPATH.
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


def _why_no_import(error: Exception, wheel: str) -> str:
    """Say what keeps MXNet from being imported, and what to do."""
    text = str(error)
    if memory.is_lacking(error):
        return memory.out_of_memory_message()
    if "libcuda.so" in text:
        return (
            f"{wheel} needs NVIDIA's driver (libcuda.so.1), which is not installed: "
            f"install the driver, or use the CPU wheel: pip uninstall {wheel}, then "
            f"pip install 'xenon-mx[cpu]'"
        )
    library = re.search(r"(lib\S+): cannot open", text)
    if library and re.match("lib(cu|nccl|nvrtc|nvTools)", library.group(1)):
        return f"{wheel} misses CUDA's {library.group(1)}: pip install 'xenon-mx[gpu]'"
    if library:
        return (
            f"{wheel} needs the system's {library.group(1)}: install it (on Debian and "
            f"Ubuntu: apt-get install libgomp1 libquadmath0)"
        )
    if "distutils" in text:
        return "MXNet needs distutils on Python 3.12: pip install 'setuptools<80'"
    return f"{wheel} cannot be imported: {text}; reinstall it: {_INSTALL}"


def parse_ctx(text: str) -> list[tuple[str, int]]:
    """Read `cpu()`, `gpu(0)`, `gpu(0),gpu(1)`, `gpu0` or `gpu:0`.

    Returns:
        (device type, device id) of each device, at least one.

    Raises:
        ConfigError: The text names no device, one device twice, or one beyond 999.
    """
    devices = []
    for part in re.sub(r"\s", "", text).split(","):
        match = _CTX.fullmatch(part)
        if not match:
            raise ConfigError(
                "--ctx", f"write cpu(), gpu(0) or gpu(0),gpu(1), not {text!r}"
            )
        number = match.group(2) or match.group(3) or "0"
        if len(number) > _MOST_DIGITS:
            raise ConfigError("--ctx", f"the highest is {'9' * _MOST_DIGITS}")
        devices.append((match.group(1), int(number)))
    if len(set(devices)) < len(devices):
        raise ConfigError("--ctx", f"names a device twice: {text!r}")
    if len({kind for kind, _ in devices}) > 1:
        raise ConfigError("--ctx", f"mixes cpu and gpu: {text!r}")
    return devices


def contexts(text: str | None) -> list[Any]:
    """Give the MXNet contexts that `--ctx` names, checked to be usable.

    Args:
        text: As `parse_ctx` reads it; None takes gpu(0) if it can be used, else
            cpu(), and says on the log which, and why not the GPU.

    Raises:
        XenonError: A device is not there, or this MXNet cannot use it.
    """
    if text is None:
        devices = [("cpu", 0)]
        reason = _why_no_gpu(0)
        if reason is None:
            devices = [("gpu", 0)]
        _log.info("ctx: %s(0)%s", devices[0][0], f" ({reason})" if reason else "")
    else:
        devices = parse_ctx(text)
        for kind, index in devices:
            reason = _why_no_gpu(index) if kind == "gpu" else None
            if reason:
                raise XenonError(f"--ctx gpu({index}): {reason}; or use --ctx 'cpu()'")
    mx = __getattr__("mx")
    return [mx.Context(kind, index) for kind, index in devices]


class Gpu(NamedTuple):
    """A GPU as NVIDIA's driver reports it."""

    name: str
    capability: tuple[int, int]


def _why_no_gpu(index: int) -> str | None:
    """Say why gpu(index) cannot be used, or None if it can."""
    mx = __getattr__("mx")
    if not mx.runtime.Features().is_enabled("CUDA"):
        return (
            "this is MXNet's CPU wheel; for a GPU: pip uninstall mxnet, then "
            "pip install 'xenon-mx[gpu]'"
        )
    gpus = _gpus()
    if not gpus:
        return "NVIDIA's driver reports no GPU; see what nvidia-smi says"
    if index >= len(gpus):
        return f"there is no such GPU: the highest is gpu({len(gpus) - 1})"
    name, capability = gpus[index]
    if not _OLDEST_GPU <= capability < _FIRST_GPU_TOO_NEW:
        return (
            f"{name} has compute capability {capability[0]}.{capability[1]}, and "
            f"MXNet 1.9.1 holds code for 5.0 to 8.9 only (Maxwell to Ada): use such "
            f"a GPU"
        )
    if index >= _counted_by_mxnet(mx):
        return (
            f"MXNet's CUDA 11 cannot use {name} with this driver: update NVIDIA's "
            f"driver, to 450.80 or newer"
        )
    return None


def _counted_by_mxnet(mx: Any) -> int:
    """Count the GPUs that MXNet sees; none when the driver is older than CUDA 11."""
    try:
        return mx.context.num_gpus()
    except mx.base.MXNetError:
        return 0


def _cuda_driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _gpus() -> list[Gpu]:
    """Ask NVIDIA's driver which GPUs there are; none when it cannot say.

    Numbers from cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR is 75, MINOR 76.
    """
    try:
        driver = _cuda_driver()
    except OSError:
        return []
    total = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(total)):
        return []
    gpus = []
    for index in range(total.value):
        name = ctypes.create_string_buffer(100)
        driver.cuDeviceGetName(name, len(name), index)
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, index)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
        gpus.append(Gpu(name.value.decode(), (major.value, minor.value)))
    return gpus


def seed(number: int) -> None:
    """Seed MXNet's generators on every device (initialisers, Dropout)."""
    __getattr__("mx").random.seed(number)
    np.random.seed(number % 2**32)  # some initialisers of MXNet draw from NumPy


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn those failures of MXNet that a user can mend into `XenonError`."""
    error_class = __getattr__("mx").base.MXNetError
    try:
        yield
    except error_class as error:
        text = str(error)
        if "out of memory" in text or "STATUS_ALLOC_FAILED" in text:
            raise XenonError(
                "the GPU's memory is full: use a smaller --batch-size or another "
                "--ctx, and see with nvidia-smi who else uses it"
            ) from error
        if "no kernel image" in text:
            raise XenonError(
                "MXNet 1.9.1 holds no code for this GPU: use one of compute "
                "capability 5.0 to 8.9, or --ctx 'cpu()'"
            ) from error
        if memory.is_lacking(error):
            raise XenonError(
                f"{memory.out_of_memory_message()}; a smaller --batch-size takes less"
            ) from error
        raise
