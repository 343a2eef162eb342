"""tools/bench: the contenders, the ratios, and the check of their outputs."""

from __future__ import annotations

import csv
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace

import benchmarks
import numpy as np
import pytest
from benchmarks import arithmetic, layout, machine, predict, rows, works
from benchmarks.works import Comparison, Contender, Work
from support import paths

from xenon_mx.commands import predict as commands_predict
from xenon_mx.inference import inputs

LOADER = SourceFileLoader("bench", str(paths.TOOLS / "bench"))
bench = module_from_spec(spec_from_loader("bench", LOADER))
LOADER.exec_module(bench)

ALL = [
    (name.partition(":")[0], contender.name)
    for name, work in works.WORKS.items()
    for contender in work.contenders
]
OTHERS = [works.SGEMM, works.DATA, works.START]
OTHERS += [c for work in works.WORKS.values() for c in work.preparations]
TWO = Work(
    [Contender("xenon", "bf16"), Contender("torch", "bf16"), Contender("limit", "f32")],
    [],
)


@pytest.mark.parametrize(
    "name",
    sorted({f"{work}-{name}" for work, name in ALL} | {c.name for c in OTHERS}),
)
def test_every_contender_is_there(name):
    assert callable(benchmarks.find(name))


@pytest.mark.parametrize("work", works.WORKS.values(), ids=works.WORKS)
def test_every_ratio_is_of_contenders_that_are_run(work):
    names = [work.ratio_name(comparison) for comparison in work.comparisons]
    assert len(set(names)) == len(names)


def test_a_ratio_of_one_precision_is_named_by_its_contenders():
    assert TWO.ratio_name(Comparison("xenon", "torch")) == "xenon / torch"


def test_a_ratio_of_two_precisions_is_refused():
    with pytest.raises(ValueError, match="xenon / limit is a ratio of bf16 to f32"):
        TWO.ratio_name(Comparison("xenon", "limit"))


def test_a_wanted_ratio_of_two_precisions_says_which():
    wanted = Comparison("xenon", "limit", of_two_precisions=True)
    assert TWO.ratio_name(wanted) == "xenon / limit (two precisions: bf16 / f32)"


def test_a_ratio_of_one_precision_is_not_named_as_one_of_two():
    with pytest.raises(ValueError, match="xenon / torch is a ratio of bf16 to bf16"):
        TWO.ratio_name(Comparison("xenon", "torch", of_two_precisions=True))


def test_a_ratio_of_two_precisions_is_refused_before_anything_is_run(monkeypatch):
    monkeypatch.setattr(bench, "run", None)
    work = TWO._replace(comparisons=[Comparison("xenon", "limit")])
    with pytest.raises(ValueError, match="bf16 to f32"):
        list(bench.measure("train", work, 1, Path("unused")))


def test_torch_compile_is_only_run_when_asked_for():
    work = works.WORKS["train"]
    usual = work.without_compiled()
    names = {contender.name for contender in usual.contenders}
    compiled = {"torch-compiled", "torch-bf16-compiled"}
    assert {c.name for c in work.contenders} - names == compiled
    assert not compiled & {comparison.other for comparison in usual.comparisons}


def results(*rates, outputs=None, peak=100):
    return [
        {"rate": rate, "peak_mb": peak + rate, "outputs": outputs or [0.5]}
        for rate in rates
    ]


WORK = Work(
    [Contender("xenon", "f32"), Contender("torch", "f32"), Contender("limit", "f32")],
    [Comparison("xenon", "torch", 1.3, 1.15), Comparison("xenon", "limit")],
    [Contender("prepare-data", "")],
)


def test_ratios_are_taken_round_by_round(monkeypatch):
    """A computer at half the speed in the second round changes no ratio."""
    rates = {"xenon": [30, 15, 32], "torch": [10, 5, 10], "limit": [60, 30, 64]}
    peaks = {"xenon": [110, 55, 10], "torch": [100, 50, 100], "limit": [1, 1, 1]}
    prepared = []

    def run(contender, work, out, programs):
        if not work:
            prepared.append(contender.name)
            return {}
        rate, peak = rates[contender.name].pop(0), peaks[contender.name].pop(0)
        return {"rate": rate, "peak_mb": peak, "outputs": None}

    monkeypatch.setattr(bench, "run", run)
    table = list(bench.measure("train", WORK, 3, Path("unused")))
    assert prepared == ["prepare-data"]
    by_name = {row["contender"]: row for row in table}
    assert list(by_name) == [
        *("xenon", "torch", "xenon / torch", "limit", "xenon / limit")
    ]
    assert by_name["xenon"]["images_per_s"] == 30
    torch, limit = by_name["xenon / torch"], by_name["xenon / limit"]
    assert (torch["ratio"], torch["target"]) == (3, 1.3)
    assert (torch["memory_ratio"], torch["memory_target"]) == (1.1, 1.15)
    assert (limit["ratio"], limit["memory_ratio"]) == (0.5, None)


def test_processes_beside_the_measured_one_have_no_ratio_of_memory():
    contenders = [contender._replace(precision="") for contender in WORK.contenders]
    measured = [{"rate": 1, "peak_mb": 1, "outputs": None}]
    found = {contender.name: measured for contender in contenders}
    table = rows.rows("load", WORK._replace(contenders=contenders), found)
    assert [row["memory_ratio"] for row in table if "ratio" in row] == [None, None]


def check(work="predict", **given):
    contenders = [
        Contender(name, "bf16" if "bf16" in name else "f32") for name in given
    ]
    rows.check_outputs(work, Work(contenders, []), given)


def test_a_peer_with_other_probabilities_is_no_peer():
    same, other = results(1, outputs=[0.1, 0.2]), results(1, outputs=[0.1, 0.2001])
    check(xenon=same, torch=same)
    with pytest.raises(rows.DifferentOutputsError, match="of torch differ by 0.0001"):
        check(xenon=same, torch=other)


def test_bfloat16_has_a_tolerance_of_its_own():
    same, near = results(1, outputs=[0.1, 0.2]), results(1, outputs=[0.1, 0.2001])
    check(xenon=same, torch_bf16=near)
    with pytest.raises(rows.DifferentOutputsError, match="of torch_bf16 differ by 0.1"):
        check(xenon=same, torch_bf16=results(1, outputs=[0.1, 0.3]))


def test_a_peer_with_fewer_probabilities_is_no_peer():
    more, fewer = results(1, outputs=[0.1, 0.2]), results(1, outputs=[0.1])
    with pytest.raises(rows.DifferentOutputsError, match="of torch differ in number"):
        check(xenon=more, torch=fewer)


def test_what_differs_ends_the_run(monkeypatch):
    outputs = {"xenon": [0.1], "torch": [0.2], "limit": None}

    def run(contender, work, out, programs):
        found = outputs.get(contender.name)
        return {"rate": 1, "peak_mb": 1, "outputs": found}

    monkeypatch.setattr(bench, "run", run)
    with pytest.raises(SystemExit, match="the probabilities of torch differ"):
        list(bench.measure("predict:files", WORK, 1, Path("unused")))


def test_work_that_is_unknown_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "sleep"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "WORK must be one of load, pack" in capsys.readouterr().err


def test_the_table_stands_below_the_machine_and_its_rate(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    table = list(
        rows.rows(
            "train",
            WORK,
            {"xenon": results(30), "torch": results(10), "limit": results(60)},
        )
    )
    bench.show(table, 240.4, 119.6)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == machine.describe()
    assert printed[1].endswith("240 GFLOP/s before the rounds, 120 after")
    assert "| train | xenon / torch |  |  |  |  |  |  | 3.0 | 1.3 | 1.18 | 1.15 |" in (
        printed
    )
    with open(tmp_path / "results.csv", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["precision"] for row in read] == ["f32", "f32", "", "f32", ""]
    assert read[2]["memory_ratio"] == "1.18"


EPYC = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu {}\n\nprocessor\t: 1\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd sve i8mm bf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            EPYC.format("avx avx2 avx512f avx512_bf16 avx512_vnni"),
            ["with avx2 avx512f avx512_bf16 avx512_vnni", "without amx_bf16"],
        ),
        # Not avx2 in the middle of another word.
        (
            EPYC.format("xavx2x"),
            ["without avx2 avx512f avx512_bf16 amx_bf16 avx512_vnni"],
        ),
        (GRAVITON, ["with asimd bf16 sve"]),
        ("", []),
    ],
)
def test_instructions_are_read_from_cpuinfo(cpuinfo, expected):
    assert machine.instructions(cpuinfo) == expected


def test_the_matrix_product_is_counted_in_gflop(monkeypatch):
    monkeypatch.setattr(arithmetic, "SIDE", 1000)
    monkeypatch.setattr(arithmetic, "timed", lambda images, work: {"seconds": 0.5})
    assert arithmetic.sgemm_gflops() == 4.0  # 2 * 1000^3 operations in half a second


def fake_images(folder, monkeypatch, count):
    """Let `asked` list files whose pixels are their number, decoded by a fake."""
    listed = [folder / f"{number}.png" for number in range(count)]
    monkeypatch.setattr(layout, "asked", lambda *_: listed)
    monkeypatch.setattr(
        predict, "_decoder", lambda: lambda path: np.full((3, 1, 1), float(path.stem))
    )
    return listed


def test_a_bare_script_predicts_in_order_and_writes_its_csv(tmp_path, monkeypatch):
    listed = fake_images(tmp_path, monkeypatch, 19)
    sizes = []

    def run(pixels):
        sizes.append(len(pixels))
        return np.repeat(pixels[:, 0, 0], 5, axis=1) - 9

    result = predict.bare(tmp_path, "files", run)
    expected = 1 / (1 + np.exp(9 - np.arange(19.0)))
    assert sizes == [8, 8, 3]
    np.testing.assert_allclose(result["outputs"], expected, rtol=1e-12)
    lines = (tmp_path / "bare.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [str(path) for path in listed]
    assert result["images"] == 19


def test_loading_a_net_is_not_timed(tmp_path, monkeypatch):
    """Xenon's clock starts at its first image, and stops when the CSV is written."""
    fake_images(tmp_path, monkeypatch, 2)
    clock = iter([100.0, 107.0])  # read twice: at the first image, and at the end
    events = []

    def batches(self):
        events.append("first image")
        yield np.zeros((2, 3, 1, 1))

    def run(config):
        events.append("load")
        (batch,) = inputs.InputImages.batches(None)
        events.append("write")
        return SimpleNamespace(members=np.array([[0.1, 0.3], [0.5, 0.7]]))

    def perf_counter():
        events.append("clock")
        return next(clock)

    monkeypatch.setattr(inputs.InputImages, "batches", batches)
    monkeypatch.setattr(commands_predict, "predict", run)
    monkeypatch.setattr(predict.time, "perf_counter", perf_counter)
    result = predict.xenon_mxnet(tmp_path)
    assert events == ["load", "clock", "first image", "write", "clock"]
    assert (result["images"], result["seconds"]) == (2, 7.0)
    np.testing.assert_allclose(result["outputs"], [0.2, 0.6])


def test_a_contender_has_a_cache_of_its_own_and_all_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    env = bench.environment()
    assert "OMP_NUM_THREADS" not in env
    assert env["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert env["PATH"] == os.environ["PATH"]
