"""tools/bench: the contenders, the ratios, and the check of their outputs."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import contenders
import pytest
from support import paths

LOADER = SourceFileLoader("bench", str(paths.TOOLS / "bench"))
bench = module_from_spec(spec_from_loader("bench", LOADER))
LOADER.exec_module(bench)


@pytest.mark.parametrize("work", bench.WORKS)
def test_every_contender_of_a_work_is_there(work):
    action = work.partition(":")[0]
    peers = bench.WORKS[work]
    for name in {"xenon", *(p.name for p in peers), *(p.xenon for p in peers)}:
        assert callable(getattr(contenders, f"{action}_{name}".replace("-", "_")))


def results(*rates, outputs=None):
    return [
        {"rate": rate, "peak_mb": 100 + rate, "outputs": outputs or [0.5]}
        for rate in rates
    ]


def test_ratios_are_taken_round_by_round(monkeypatch):
    """A computer at half the speed in the second round changes no ratio."""
    rates = {"xenon": [30, 15, 32], "torch": [10, 5, 10], "channels-last": [15, 5, 8]}
    rates["limit"] = [60, 30, 64]

    def run(contender, out, programs):
        rate = rates[contender[len("train-") :]].pop(0)
        return {"rate": rate, "peak_mb": 1, "outputs": None}

    monkeypatch.setattr(bench, "run", run)
    rows = list(bench.measure("train", 3, Path("unused")))
    ratios = {row["contender"]: row["ratio"] for row in rows if "ratio" in row}
    assert ratios == {
        "xenon / torch": 3,
        "xenon / channels-last": 3,
        "xenon / limit": 0.5,
    }
    median = {row["contender"]: row.get("images_per_s") for row in rows}
    assert median["xenon"] == 30


def test_a_peer_with_other_probabilities_is_no_peer():
    same, other = results(1, outputs=[0.1, 0.2]), results(1, outputs=[0.1, 0.21])
    bench.check_outputs("predict", {"xenon": same, "torch": same})
    with pytest.raises(SystemExit, match=r"of torch differ by 0\.01"):
        bench.check_outputs("predict", {"xenon": same, "torch": other})


def test_a_peer_with_fewer_probabilities_is_no_peer():
    more, fewer = results(1, outputs=[0.1, 0.2]), results(1, outputs=[0.1])
    with pytest.raises(SystemExit, match="of torch differ"):
        bench.check_outputs("predict", {"xenon": more, "torch": fewer})


def test_work_that_is_unknown_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "sleep"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "WORK must be one of load, pack" in capsys.readouterr().err
