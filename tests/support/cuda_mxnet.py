"""A stand-in for an MXNet with CUDA, for `fresh_python.install`.

It has what xenon asks an MXNet before it computes on a GPU, and computes with NumPy, or
fails as CUDA_MXNET_FAULT says.
"""

from __future__ import annotations

CUDA_MXNET = """
import os, sys, time
from types import ModuleType, SimpleNamespace as Space
import numpy as np

fault = os.environ.get("CUDA_MXNET_FAULT")

class MXNetError(Exception):
    pass

class Array(np.ndarray):
    def asnumpy(self):
        return np.asarray(self)

def array(values, ctx):
    print("a message on standard output")
    if fault == "abort":
        sys.stderr.write("terminate called after throwing\\n")
        sys.stderr.flush()
        os.abort()
    if fault == "hang":
        time.sleep(600)
    if fault and fault not in ("wrong", "nan"):
        raise MXNetError(f"[10:00:00] src/x.h:1: Check failed: e == 0: {fault}\\n"
                         "Stack trace:\\n  [bt] (0) libmxnet.so(+0x52f66b)")
    return np.asarray(values).view(Array)

def dot(left, right):
    offset = {"wrong": 1, "nan": np.nan}.get(fault, 0)
    return (np.asarray(left) @ np.asarray(right) + offset).view(Array)

def convolution(image, weight, **_):
    side = image.shape[2] - 2
    out = np.zeros((len(image), len(weight), side, side), np.float32)
    for i in range(side):
        for j in range(side):
            patch = np.asarray(image[:, :, i : i + 3, j : j + 3])
            out[:, :, i, j] = np.tensordot(patch, weight, axes=((1, 2, 3), (1, 2, 3)))
    return out.view(Array)

runtime = Space(Features=lambda: Space(is_enabled=lambda name: name == "CUDA"))
context = Space(num_gpus=lambda: 9)
base = Space(MXNetError=MXNetError)
Context = lambda kind, index: f"{kind}({index})"
nd = ndarray = sys.modules["mxnet.ndarray"] = ModuleType("mxnet.ndarray")
vars(nd).update(array=array, dot=dot, Convolution=convolution)
"""
