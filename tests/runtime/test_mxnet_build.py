"""Which MXNet is installed, and which GPUs it is known to run on."""

from __future__ import annotations

import pytest
from support.fresh_python import install, output

from xenon_mx.runtime import mxnet_build
from xenon_mx.runtime.mxnet_build import Build

ASK = "from xenon_mx.runtime import mxnet_build; print(mxnet_build.installed())"


@pytest.mark.parametrize("name", ["mxnet", "mxnet-cu112", "mxnet-cu117"])
def test_the_build_is_the_distribution(site, name):
    install(site, name)
    assert output(ASK, site) == f"{name} 1.9.1"


def test_a_name_is_as_pip_writes_it(site):
    install(site, "mxnet_cu112")
    assert output(ASK, site) == "mxnet-cu112 1.9.1"


def test_without_a_distribution_it_has_no_version(site):
    (site / "mxnet").mkdir()
    (site / "mxnet" / "__init__.py").write_text("")
    assert output(ASK, site) == "mxnet"


@pytest.mark.parametrize("cuda", [112, 113, 117])
def test_the_wheels_of_cuda_11_run_on_maxwell_to_ada(cuda):
    known = mxnet_build.capabilities(Build(f"mxnet-cu{cuda}", "1.9.1"))
    assert known == mxnet_build.of_extra() == ((5, 0), (8, 9))


@pytest.mark.parametrize(
    "build",
    [
        Build("mxnet", "1.9.1"),
        Build("mxnet", None),
        Build("mxnet-cu112", "1.9.0"),
        Build("mxnet-cu124", "1.9.1"),
    ],
)
def test_of_other_builds_nothing_is_known(build):
    assert mxnet_build.capabilities(build) is None


@pytest.mark.parametrize(("name", "version"), [("gluoncv", "1.9.1"), ("x", "unknown")])
def test_the_version_of_gluoncv_is_its_distributions(site, name, version):
    install(site, name)
    ask = "from xenon_mx.runtime import mxnet_build as b; print(b.gluoncv_version())"
    assert output(ask, site) == version
