"""Devices against the CPU, with two CPU contexts, and with faults in the second."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from support.checks import Told
from support.paths import ROOT
from support.runs import NET

from xenon_mx.diagnosis import agreement, first_steps, packing
from xenon_mx.diagnosis.first_steps import Differences, FirstSteps
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.models import network
from xenon_mx.runtime.mxnet import mx, nn
from xenon_mx.training import optimizers

TWO = ("cpu(0)", "cpu(1)")
COMPARED = ("logits", "gradients", "BatchNorm's statistics after 3 steps")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Forget the variable that the check sets for its own process."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def check(net=NET, devices=TWO, size=32):
    told = Told()
    agreement.check(Subject(net, size, 8, devices, "/nowhere"), told)
    return told


def names(device):
    return [f"{what}, {device}" for what in COMPARED]


TOGETHER = "2 devices together"


def test_two_cpus_compute_what_the_cpu_computes():
    told = check()
    expected = [*names("cpu(0)"), *names("cpu(1)"), *names(TOGETHER), "weights"]
    assert [finding.name for finding in told.findings] == expected
    assert told.wrong() == []


def test_a_net_with_dropout_and_without_batch_norm_is_compared():
    told = check("squeezenet1.1", TWO[:1])
    assert [finding.name for finding in told.findings] == names("cpu(0)")[:2]
    assert told.wrong() == []


def tamper(monkeypatch, change):
    """Have a change done to the net where it computes on cpu(1) and is not reference.

    The CPU's own steps, with which it is compared, are taken on cpu(1), too.
    """
    state = {"reference": False}
    compute, create = first_steps.compute, optimizers.Adam.__init__

    def remember(*args, reference=False, **options):
        state["reference"] = reference
        return compute(*args, reference=reference, **options)

    def create_and_change(self, net, *args):
        create(self, net, *args)
        if state["reference"]:
            return
        for param in net.collect_params().values():
            for ctx in param.list_ctx():
                if ctx == mx.cpu(1):
                    change(param, param.data(ctx))

    monkeypatch.setattr(first_steps, "compute", remember)
    monkeypatch.setattr(optimizers.Adam, "__init__", create_and_change)


def scale_a_layer(param, array):
    if param.name.endswith("conv5_weight"):
        array[:] = array * 3  # its gradient is a third


def nan_in_the_last_layer(param, array):
    if param.name.endswith("dense0_bias"):
        array[:] = np.nan


@pytest.mark.parametrize("change", [scale_a_layer, nan_in_the_last_layer])
def test_a_second_device_that_computes_something_else_is_found(monkeypatch, change):
    changed = []

    def and_count(param, array):
        before = array.asnumpy()
        change(param, array)
        changed.append(not np.array_equal(before, array.asnumpy()))

    tamper(monkeypatch, and_count)
    told = check()
    assert sum(changed) == 2  # of cpu(1) alone, and of both
    wrong = told.wrong()
    assert not set(names("cpu(0)")) & set(wrong)
    assert {*names("cpu(1)")[:2], *names(TOGETHER)[:2], "weights"} <= set(wrong)
    lines = [each.line for each in told.findings if each.wrong and "," in each.name]
    assert all("do not train on it" in line for line in lines)


def test_devices_whose_weights_part_are_found(monkeypatch):
    step = optimizers.Adam.step

    def step_and_change(self, images):
        step(self, images)
        param = self._params["output.bias"]
        if len(param.list_ctx()) == 2:
            param.data(mx.cpu(1))[:] += 1e-6

    monkeypatch.setattr(optimizers.Adam, "step", step_and_change)
    assert check().wrong() == ["weights"]


def test_statistics_that_are_not_updated_are_found(monkeypatch):
    statistics = first_steps._statistics
    calls = []

    def forgetful(net):
        calls.append(1)
        found = statistics(net)
        if len(calls) < 4:  # the CPU's three
            return found
        return {key: array * 0 + ("var" in key) for key, array in found.items()}

    monkeypatch.setattr(first_steps, "_statistics", forgetful)
    assert check(devices=TWO[:1]).wrong() == names("cpu(0)")[2:]


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (NET, 32),
        pytest.param("resnet18_v2", 64, marks=pytest.mark.slow),
        pytest.param("mobilenetv2_0.25", 64, marks=pytest.mark.slow),
    ],
)
def test_another_momentum_of_batch_norm_is_found(monkeypatch, net, size):
    build = network.build

    def build_and_change(model, weights=None, ctxs=None, *reference):
        built = build(model, weights, ctxs, *reference)

        def change(block):
            if isinstance(block, nn.BatchNorm):
                assert block._kwargs["momentum"] == 0.9
                block._kwargs["momentum"] = 0.8

        if ctxs and True not in reference:
            built.apply(change)
        return built

    monkeypatch.setattr(network, "build", build_and_change)
    told = check(net, TWO[:1], size)
    assert told.wrong() == names("cpu(0)")[2:]


# Computes the first steps as the name of the process says, and stores them.
OTHERWISE = """
import pickle, sys
sys.path.insert(0, {root!r})
from xenon_mx.diagnosis import agreement
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime import gradient_sums
from xenon_mx.models import network
from xenon_mx.runtime.mxnet import mx, nn
from support.checks import Told
gradient_sums.choose(in_place=False)
comparison = agreement._Comparison(Subject({net!r}, {size}, 8, ("cpu(0)",), ""), Told())
with open({file!r}, "wb") as stream:
    pickle.dump(tuple(comparison._compute([mx.cpu(0)])), stream)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [{"MXNET_MKLDNN_ENABLED": "0"}, {"OMP_NUM_THREADS": "1"}]
)
@pytest.mark.parametrize(
    ("net", "size"), [(NET, 32), ("mobilenetv2_0.25", 64), ("mobilenetv2_0.5", 64)]
)
def test_another_correct_computation_is_not_called_wrong(
    monkeypatch, tmp_path, net, size, variables
):
    """Another program of MXNet's, or another number of threads, is the device."""
    file = tmp_path / "steps"
    code = OTHERWISE.format(root=str(ROOT), net=net, size=size, file=str(file))
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    other = FirstSteps(*pickle.loads(file.read_bytes()))
    compute = first_steps.compute

    def computed_elsewhere(*args, reference=False, **options):
        return compute(*args, reference=True, **options) if reference else other

    monkeypatch.setattr(first_steps, "compute", computed_elsewhere)
    told = check(net, TWO[:1], size)
    assert [finding.line for finding in told.findings if finding.wrong] == []
    assert [finding.is_fact for finding in told.findings] == [False] * 3


def test_a_net_that_rounding_changes_much_is_not_compared(monkeypatch):
    """By a CPU of which each computation has other gradients."""
    compute = first_steps.compute
    factors = iter([1.0, 1.2, 1.0, 5.0, 1.0, 1.2, 1.0, float("nan")])

    def noisy(*args, **options):
        steps = compute(*args, **options)
        factor = next(factors)
        changed = {key: array * factor for key, array in steps.gradients.items()}
        return steps._replace(gradients=changed)

    monkeypatch.setattr(first_steps, "compute", noisy)
    told = check(devices=TWO[:1])
    line = told.findings[1].line
    assert line.startswith("gradients, cpu(0): not checked: rounding alone changes ")
    assert line.endswith("try a larger --size")
    assert told.wrong() == []
    assert check(devices=TWO[:1]).wrong() == ["gradients, cpu(0)"]  # not a number


def steps(logits, gradients=(1.0,), means=(0.0,), variances=(1.0,)):
    logits = np.array(logits, "f")
    arrays = {str(i): np.array(value, "f") for i, value in enumerate(gradients)}
    statistics = {
        "0.running_mean": np.array(means, "f"),
        "0.running_var": np.array(variances, "f"),
    }
    return FirstSteps(logits, logits, arrays, statistics, True)


def test_differences_are_relative_to_the_largest_or_the_norm():
    one = steps([4.0, 1.0], ([3.0, 4.0], [0.0, 1e-9]))
    other = steps([4.0, 2.0], ([3.0, 3.0], [1e-9, 1e-9]))
    found = first_steps.differences(one, other)
    assert found == pytest.approx(Differences(1 / 4, 1 / 5, 0))


def test_statistics_are_relative_to_the_spread_of_their_channel():
    one = steps([1.0], means=[0.0, 1e-9, 5.0], variances=[100.0, 4.0, 1.0])
    other = steps([1.0], means=[2.0, 1.0, 5.1], variances=[90.0, 4.4, 1.0])
    assert first_steps.differences(one, other).statistics == pytest.approx(0.5)
    other = steps([1.0], means=[0.0, 0.0, 5.0], variances=[90.0, 5.0, 1.0])
    assert first_steps.differences(one, other).statistics == pytest.approx(0.25)


def test_zeros_are_equal_to_zeros_only():
    zeros = steps([0.0], [[0.0]], [0.0], [0.0])
    assert first_steps.differences(zeros, zeros) == Differences(0, 0, 0)
    found = first_steps.differences(zeros, steps([1.0], [[1.0]], [1.0], [0.0]))
    assert found == Differences(*[float("inf")] * 3)


def test_a_small_gradient_is_compared_with_a_share_of_the_largest():
    one, other = steps([1.0], ([1.0], [0.0])), steps([1.0], ([1.0], [5e-4]))
    assert first_steps.differences(one, other).gradients == pytest.approx(0.5)


def test_not_a_number_is_infinitely_far():
    nan = float("nan")
    found = first_steps.differences(steps([1.0]), steps([nan], [nan], [nan]))
    assert found == Differences(*[float("inf")] * 3)


def test_limits_follow_rounding_between_two_ends():
    assert agreement.limits(Differences(0, 0, 0)) == Differences(1e-3, 0.05, 0.1)
    found = agreement.limits(Differences(1e-4, 3e-2, 1e-3))
    assert found == pytest.approx(Differences(3e-3, 0.5, 0.1))
    found = agreement.limits(Differences(1e-4, 3e-2, float("inf")))
    assert found == pytest.approx(Differences(3e-3, 0.5, 0.1))
    found = agreement.limits(Differences(4e-6, 2e-2, 1))
    assert found == pytest.approx(Differences(1e-3, 0.2, 0.1))


def test_the_limit_of_gradients_follows_the_root_of_that_of_logits():
    """A draw of rounding that changes no ReLU is no measure of gradients."""
    found = agreement.limits(Differences(3.6e-5, 1e-4, 0))
    assert found.gradients == pytest.approx(50 * 6e-3)


@pytest.mark.parametrize(
    ("size", "devices", "count"),
    [(320, 1, 4), (512, 2, 4), (320, 8, 8), (160, 1, 16), (64, 1, 32), (64, 8, 96)],
)
def test_small_images_are_more(size, devices, count):
    subject = Subject(NET, size, 8, ("cpu(0)",) * devices, "")
    assert agreement.images(subject) == count


@pytest.mark.parametrize("devices", range(9))
def test_the_few_images_are_shared_evenly(devices):
    count = packing.few(Subject(NET, 32, 8, ("cpu(0)",) * devices, ""))
    assert count % 2 == 0
    assert count % max(1, devices) == 0
    assert count >= 4
    for size in (32, 100, 187, 320, 1000):
        more = agreement.images(Subject(NET, size, 8, ("cpu(0)",) * devices, ""))
        assert more % 2 == more % max(1, devices) == 0
        assert more >= count
