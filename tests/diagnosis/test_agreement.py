"""Devices against the CPU, with two CPU contexts, and with faults in the second."""

from __future__ import annotations

import numpy as np
import pytest
from support.checks import Told
from support.runs import NET

from xenon_mx.diagnosis import agreement, first_steps, packing
from xenon_mx.diagnosis.first_steps import Differences, FirstSteps
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training import optimizers

TWO = ("cpu(0)", "cpu(1)")
COMPARED = ("logits", "gradients", "BatchNorm's statistics after 3 steps")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Forget the variable that the check sets for its own process."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def check(net=NET, devices=TWO):
    told = Told()
    agreement.check(Subject(net, 32, 8, devices, "/nowhere"), told)
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
        array[:] = array * 1.5


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
        if len(calls) < 3:  # the CPU's two
            return found
        return {key: array * 0 + ("var" in key) for key, array in found.items()}

    monkeypatch.setattr(first_steps, "_statistics", forgetful)
    assert check(devices=TWO[:1]).wrong() == names("cpu(0)")[2:]


def steps(logits, gradients=(1.0,), statistics=(1.0,)):
    def arrays(values):
        return {str(i): np.array(value, "f") for i, value in enumerate(values)}

    logits = np.array(logits, "f")
    return FirstSteps(logits, logits, arrays(gradients), arrays(statistics), True)


def test_differences_are_relative_to_the_largest_or_the_norm():
    one = steps([4.0, 1.0], ([3.0, 4.0], [0.0, 1e-9]), ([2.0, 1.0],))
    other = steps([4.0, 2.0], ([3.0, 3.0], [1e-9, 1e-9]), ([2.0, 1.5],))
    found = first_steps.differences(one, other)
    assert found == pytest.approx(Differences(1 / 4, 1 / 5, 0.5 / 2))


def test_a_small_gradient_is_compared_with_a_share_of_the_largest():
    one, other = steps([1.0], ([1.0], [0.0])), steps([1.0], ([1.0], [5e-4]))
    assert first_steps.differences(one, other).gradients == pytest.approx(0.5)


def test_not_a_number_is_infinitely_far():
    nan = float("nan")
    found = first_steps.differences(steps([1.0]), steps([nan], [nan], [nan]))
    assert found == Differences(*[float("inf")] * 3)


def test_limits_follow_rounding_between_two_ends():
    assert agreement.limits(Differences(0, 0, 0)) == Differences(1e-4, 1e-4, 1e-4)
    found = agreement.limits(Differences(1e-4, 1e-2, 1e-3))
    assert found == pytest.approx(Differences(3e-3, 0.1, 0.03))
    found = agreement.limits(Differences(1e-2, 0.09, 1e-2))
    assert found == pytest.approx(Differences(0.05, 0.3, 0.1))
    found = agreement.limits(Differences(0.1, 0.2, 0.1))
    assert found == pytest.approx(Differences(0.3, 0.6, 0.3))


@pytest.mark.parametrize("devices", range(9))
def test_the_few_images_are_shared_evenly(devices):
    count = packing.few(Subject(NET, 32, 8, ("cpu(0)",) * devices, ""))
    assert count % 2 == 0
    assert count % max(1, devices) == 0
    assert count >= 4
