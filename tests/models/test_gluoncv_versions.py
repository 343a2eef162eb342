"""The nets of GluonCV 0.7, which NVIDIA's container has, and of the one installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import paths

# Keys, shapes and the logit of every net, with weights drawn by the keys.
DESCRIBE = """
import json, sys, zlib
import numpy as np
from xenon_mx.models import net_names, network
from xenon_mx.runtime.mxnet import model_zoo, mx

def draw(key, shape):
    random = np.random.default_rng(zlib.crc32(key.encode()))
    array = random.normal(0, .05, shape)
    return (1 + array if key.endswith(("gamma", "var")) else array).astype("float32")

image = mx.nd.array(np.random.default_rng(0).normal(size=(1, 3, 64, 64)))
nets = {}
for name in net_names.NAMES:
    net, _ = network.build_uninitialized(name)
    params = net._collect_params_with_prefix()
    shapes = {key: list(param.shape) for key, param in params.items()}
    network._initialize(net, {k: draw(k, s) for k, s in shapes.items()}, [mx.cpu()])
    nets[name] = [shapes, net(image).asnumpy().tolist()]
json.dump([model_zoo.__file__, nets], sys.stdout)
"""


def describe(*folders):
    """Return where GluonCV is and its nets, with folders before the environment's."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}\n{DESCRIBE}"],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_net_has_the_same_keys_shapes_and_logits(tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", tmp_path, "gluoncv==0.7.0"], check=True)
    file, nets = describe(str(tmp_path))
    assert file.startswith(str(tmp_path))
    other_file, expected = describe()
    assert not other_file.startswith(str(tmp_path))
    assert nets.keys() == expected.keys()
    for name, described in expected.items():
        assert nets[name] == described, name
    logits = [logit for _, logit in nets.values()]
    assert len({str(logit) for logit in logits}) == len(logits)  # of nets that differ
