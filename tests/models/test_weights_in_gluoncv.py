"""Which of gluoncv's own nets load the params of a run, as docs/deploy.md says.

The page's table is read, and every net is compared with what it says.
"""

from __future__ import annotations

import fnmatch
import re

import numpy as np
import pytest
import synthetic
from support import paths

from xenon_mx.models import net_names, network, weight_files
from xenon_mx.runtime.mxnet import model_zoo, mx

PAGE = (paths.ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Weights in gluoncv's own nets")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (`.+`) \| (.+) \|$", TABLE, re.MULTILINE)
SAME, ELSEWHERE, REFUSED = "the same logits", "224 px", "refuse"


def said(name):
    """Return what the page says of a net: the row with the longest pattern counts."""
    found = {
        pattern: words
        for patterns, words in ROWS
        for pattern in re.findall("`(.+?)`", patterns)
        if fnmatch.fnmatchcase(name, pattern)
    }
    return found[max(found, key=len)]


def save(name, file):
    """Save a net as a run does; return it. No two of its arrays are alike."""
    net = network.build(name, reference=True)
    for key, param in net._collect_params_with_prefix().items():
        value = param.data().asnumpy()
        if key.endswith(("gamma", "running_var")):
            value = np.random.uniform(0.5, 1.5, value.shape)
        elif key.endswith(("beta", "running_mean", "bias")):
            value = np.random.normal(0, 0.1, value.shape)
        param.set_data(mx.nd.array(value))
    file.write_bytes(weight_files.encode(network.state_dict(net)))
    return net


def difference(net, zoo, size):
    """Return the largest difference of the logits, relative to the largest logit."""
    pixels = synthetic.blobs(2, size)
    pixels[1, -64:, -64:] = 255  # where the zoo's DenseNets do not look at 320 px
    batch = network.normalise(mx.nd.array(pixels, dtype="uint8"))
    expected, actual = net(batch).asnumpy(), zoo(batch).asnumpy()
    assert expected.shape == actual.shape == (2, 1)
    return np.abs(actual - expected).max() / np.abs(expected).max()


ORDINARY = ("mobilenet0.25", "squeezenet1.1")
ONE_EACH = [
    name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow)
    for name in net_names.NAMES
]


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_page_says_what_gluoncv_makes_of_the_params(tmp_path, name):
    net, words = save(name, tmp_path / "net.params"), said(name)
    zoo = model_zoo.get_model(name, classes=1, pretrained=False)
    if REFUSED in words:
        with pytest.raises(AssertionError, match="is missing in file"):
            zoo.load_parameters(str(tmp_path / "net.params"))
        return
    zoo.load_parameters(str(tmp_path / "net.params"))
    assert difference(net, zoo, 224) < 1e-3
    if SAME in words:
        assert difference(net, zoo, 320) < 1e-3
    else:
        assert ELSEWHERE in words
        assert difference(net, zoo, 320) > 1e-2
