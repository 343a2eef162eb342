"""Steps, decoding threads and mixed precision."""

from __future__ import annotations

import dataclasses
import re
import time

import numpy as np
import pytest
from support.checks import Told
from support.runs import NET

from xenon_mx.data import packed_folder, record_iter
from xenon_mx.diagnosis import decoding, first_steps, mixed, packing, speed
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import gradient_sums, half_precision
from xenon_mx.training.loop import TrainingLoop


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A subject whose images are packed."""
    folder = tmp_path_factory.mktemp("doctor")
    subject = Subject(NET, 32, 8, ("cpu(0)", "cpu(1)"), str(folder))
    packing.check(subject, Told())
    return subject


# Steps


def test_steps_are_timed_on_all_devices(subject):
    told = Told()
    returned = speed.check(subject, told)
    (finding,) = told.findings
    found = re.fullmatch(
        r"training: 20 steps of 8 images over 2 devices at ([\d.,]+) img/s; "
        r"[\d.]+ [MG]B of memory: ok",
        finding.line,
    )
    assert float(found.group(1).replace(",", "")) == pytest.approx(
        returned["images_per_s"], rel=0.01
    )


def test_a_loss_that_is_not_finite_is_found(subject, monkeypatch):
    losses = iter([0.7, 0.7, 0.7, 0.7, float("nan"), *[0.7] * 99])
    monkeypatch.setattr(TrainingLoop, "train_step", lambda self, batch: next(losses))
    told = Told()
    speed.check(subject, told)
    assert "WRONG: the loss is not finite from step 5 on" in told.findings[0].line


def test_a_slow_device_is_timed_for_fewer_steps(subject, monkeypatch):
    """By a clock that is 6 s further after each step."""
    now = [0.0]

    def step(self, batch):
        now[0] += 6.0
        return 0.7

    monkeypatch.setattr(TrainingLoop, "train_step", step)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    told = Told()
    assert speed.check(subject, told)["images_per_s"] == pytest.approx(8 / 6)
    assert told.findings[0].seen.startswith("4 steps of 8 images")


# Decoding


@pytest.fixture
def rates(monkeypatch):
    """Patch the rate of decoding: a thousand images per second and thread."""
    monkeypatch.setattr(decoding, "usable_cores", lambda: 6)
    asked = []

    def measure(split, threads):
        asked.append(threads)
        return 1000.0 * threads

    monkeypatch.setattr(decoding, "measure", measure)
    return asked


@pytest.mark.parametrize(
    ("wanted", "asked", "advice"),
    [
        (700.0, [1], "use --threads 1: ok"),
        (900.0, [1, 2], "use --threads 2: ok"),
        (3100.0, [1, 2, 4], "use --threads 4: ok"),
        (4700.0, [1, 2, 4, 6], "use --threads 6: ok"),
        (4900.0, [1, 2, 4, 6], "pack at a smaller --size"),
    ],
)
def test_as_many_threads_are_named_as_the_devices_need(
    subject, rates, wanted, asked, advice
):
    told = Told()
    decoding.check(subject, told, wanted)
    assert rates == asked
    assert told.findings[0].line.endswith(advice)


def test_every_core_is_tried_whatever_the_batch_size(subject, rates, monkeypatch):
    """A batch of 256 images leaves only three parts of the records."""
    monkeypatch.setattr(decoding, "usable_cores", lambda: 64)
    told = Told()
    large = dataclasses.replace(subject, batch_size=256)
    decoding.check(large, told, 20000.0)
    assert rates == [1, 2, 4, 8, 16, 32]
    assert told.findings[0].line == (
        "decoding: 32,000 img/s with 32 of 64 cores, and training takes 20,000: "
        "use --threads 32: ok"
    )


def test_each_thread_decodes_all_the_while(subject, monkeypatch):
    """More threads than the records have batches decode no less than one."""
    split = packed_folder.open_packed(subject.large).split("train")
    monkeypatch.setattr(decoding, "_LEAST_S", 0.2)
    seen = []
    batches = record_iter.training_batches

    def watched(*args):
        for batch in batches(*args):
            seen.append(len(batch.pixels))
            yield batch

    monkeypatch.setattr(record_iter, "training_batches", watched)
    start = time.perf_counter()
    rate = decoding.measure(split, 16)
    passed = time.perf_counter() - start
    assert len(seen) > 2 * 16
    assert sum(seen) / passed / 2 < rate < sum(seen) / 0.2


def test_an_error_of_one_thread_ends_all(subject, monkeypatch):
    split = packed_folder.open_packed(subject.large).split("train")
    batches = record_iter.training_batches

    def failing(split, batch_size, seed, epoch):
        if seed == 1:
            raise XenonError("train.rec: has changed")
        return batches(split, batch_size, seed, epoch)

    monkeypatch.setattr(record_iter, "training_batches", failing)
    with pytest.raises(XenonError, match="has changed"):
        decoding.measure(split, 2)


def test_images_are_decoded_to_measure_it(subject):
    told = Told()
    decoding.check(subject, told, images_per_s=1.0)
    assert "use --threads 1: ok" in told.findings[0].line
    assert float(told.findings[0].seen.split()[0].replace(",", "")) > 10


# Mixed precision


def check_amp(model):
    told = Told()
    mixed.check(Subject(model, 32, 8, ("cpu(0)",), ""), told)
    (finding,) = told.findings
    return finding


def test_a_processor_without_16_bits_has_no_amp(monkeypatch):
    def refuse(ctxs):
        raise ConfigError("--amp", "this processor has none: omit --amp")

    monkeypatch.setattr(half_precision, "dtype", refuse)
    line = check_amp("densenet121").line
    assert line == "--amp: not there: this processor has none: omit --amp: ok"


@pytest.fixture
def has_bfloat16(monkeypatch):
    """Have bfloat16, which MXNet computes on any processor, if slowly."""
    monkeypatch.setattr(half_precision, "dtype", lambda ctxs: "bfloat16")
    monkeypatch.setattr(gradient_sums, "choose", lambda in_place: None)


@pytest.mark.usefixtures("has_bfloat16")
def test_a_net_that_gains_nothing_is_left_out():
    assert "no faster in bfloat16: ok" in check_amp(NET).line


@pytest.mark.usefixtures("has_bfloat16")
def test_amp_is_compared_with_rounded_weights():
    finding = check_amp("resnet18_v1")
    assert finding.line.endswith(": ok")
    difference, limit = (float(x) for x in re.findall(r"\d\.\de[-+]\d+", finding.seen))
    assert 1e-3 < difference < limit < 2


@pytest.mark.usefixtures("has_bfloat16")
def test_amp_that_computes_something_else_is_found(monkeypatch):
    compute = first_steps.compute

    def damage(*args, amp=None, **options):
        steps = compute(*args, amp=None, **options)  # resnet18 in float32, for speed
        return steps._replace(logits=-steps.logits) if amp else steps

    monkeypatch.setattr(first_steps, "compute", damage)
    assert "omit --amp" in check_amp("resnet18_v1").wrong


@pytest.mark.parametrize("bits", [7, 10])
def test_weights_are_rounded_to_the_bits_of_the_type(bits):
    weights = np.random.RandomState(0).normal(size=(4, 3, 3, 3)).astype("f")
    rounded = mixed._rounded({"a": weights, "b": weights[0, 0, 0]}, bits)
    assert (rounded["b"] == weights[0, 0, 0]).all()
    error = np.abs(rounded["a"] - weights) / np.abs(weights)
    assert 0 < error.max() <= 2.0 ** -(bits + 1)
    if bits == 10:
        assert (rounded["a"] == weights.astype(np.float16)).all()
