"""What MXNet's export, Module and SymbolBlock write: read as the net's own weights."""

from __future__ import annotations

import re

import pytest

from xenon_mx.errors import XenonError
from xenon_mx.models import network
from xenon_mx.runtime.mxnet import gluon, model_zoo, mx

NETS = ["resnet18_v1", "squeezenet1.1", "mobilenetv2_0.25"]
LARGE = ["densenet121", "resnet50_v1b", "resnet18_v2", "se_resnext50_32x4d"]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Return a function that exports a zoo net and saves it as Gluon does."""
    made = {}

    def make(name):
        if name not in made:
            zoo = model_zoo.get_model(name, classes=1000, pretrained=False)
            zoo.initialize(mx.init.Xavier())
            for param in zoo.collect_params().values():  # so that no two are alike
                param.initialize(mx.init.Uniform(), force_reinit=True)
            zoo.hybridize()
            zoo(mx.nd.zeros((1, 3, 224, 224)))
            for param in zoo.collect_params(".*running_var").values():
                param.set_data(param.data().abs())
            folder = tmp_path_factory.mktemp("exported")
            zoo.export(str(folder / "x"))
            zoo.save_parameters(str(folder / "x.params"))
            made[name] = folder
        return made[name]

    return make


def state(name, file):
    """Return the arrays that a file puts into the net, without the new last layer."""
    loaded = network.state_dict(network.build(name, file))
    return {key: a for key, a in loaded.items() if not key.startswith("output")}


def same(actual, expected):
    assert actual.keys() == expected.keys()
    assert all((actual[key] == expected[key]).all() for key in expected)


each_net = pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "resnet50_v1b",
        *NETS,
        *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE[2:]),
    ],
)


@each_net
def test_what_export_writes_is_read(name, export):
    names = mx.nd.load(str(export(name) / "x-0000.params"))
    assert all(re.match(r"(arg|aux):[a-z]\w*_", each) for each in names)
    same(
        state(name, export(name) / "x-0000.params"),
        state(name, export(name) / "x.params"),
    )


@pytest.mark.parametrize("name", ["densenet121", "resnet50_v1b"])
def test_what_module_saves_is_read(name, export, tmp_path):
    symbol, arg, aux = mx.model.load_checkpoint(str(export(name) / "x"), 0)
    mx.model.save_checkpoint(str(tmp_path / "m"), 7, symbol, arg, aux)
    same(
        state(name, tmp_path / "m-0007.params"), state(name, export(name) / "x.params")
    )


@pytest.mark.filterwarnings("ignore:.*Cannot decide type:UserWarning")
@pytest.mark.parametrize("name", ["resnet18_v1", "resnet50_v1b"])
def test_what_a_net_made_from_a_symbol_exports_is_read(name, export, tmp_path):
    prefix = str(export(name) / "x")
    net = gluon.SymbolBlock.imports(
        f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params"
    )
    net.hybridize()
    net(mx.nd.zeros((1, 3, 224, 224)))
    net.export(str(tmp_path / "s"))
    same(
        state(name, tmp_path / "s-0000.params"), state(name, export(name) / "x.params")
    )


@pytest.mark.parametrize("number", ["", "0", "7", "123"])
@pytest.mark.parametrize("role", [True, False])
def test_the_number_of_a_net_in_its_prefix_does_not_matter(
    number, role, export, tmp_path
):
    arrays = mx.nd.load(str(export("squeezenet1.1") / "x-0000.params"))
    renamed = {
        re.sub(r"squeezenet\d+_", f"squeezenet{number}_", name if role else name[4:]): a
        for name, a in arrays.items()
    }
    mx.nd.save(str(tmp_path / "x"), renamed)
    same(
        state("squeezenet1.1", tmp_path / "x"),
        state("squeezenet1.1", export("squeezenet1.1") / "x.params"),
    )


@pytest.mark.parametrize(
    ("old", "new"), [("arg:", "aux:"), ("arg:", ""), ("squeezenet", "squeezenet9")]
)
def test_a_weight_that_is_there_twice_is_refused(old, new, export, tmp_path):
    arrays = mx.nd.load(str(export("squeezenet1.1") / "x-0000.params"))
    name = next(each for each in arrays if each.endswith("_conv0_weight"))
    arrays[name.replace(old, new)] = arrays[name]
    mx.nd.save(str(tmp_path / "x"), arrays)
    with pytest.raises(XenonError, match="two arrays for the same weight"):
        network.build("squeezenet1.1", tmp_path / "x")


def test_an_array_beside_an_exported_net_is_refused(export, tmp_path):
    arrays = mx.nd.load(str(export("squeezenet1.1") / "x-0000.params"))
    arrays["arg:dense0_weight"] = mx.nd.zeros((1, 1))
    mx.nd.save(str(tmp_path / "x"), arrays)
    with pytest.raises(XenonError, match="arg:dense0_weight is unknown to the net"):
        network.build("squeezenet1.1", tmp_path / "x")
