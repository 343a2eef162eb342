"""Resume: a run that was stopped ends with the bytes of one that was not."""

from __future__ import annotations

import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import synthetic
from support.outcome import outcome
from support.runs import NET, train_config

from xenon_mx.commands import train, train_inputs, train_record
from xenon_mx.errors import XenonError
from xenon_mx.models import network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files

# The first has Dropout and no BatchNorm, the second the other way round.
NETS = ["squeezenet1.1", NET]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "packed"
    splits = {"train": synthetic.labelled(20), "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits)


config = partial(train_config, lr=1e-3, epochs=4)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_resumed_in_the_middle_a_run_ends_with_the_same_bytes(
    packed, tmp_path, net, stop
):
    train.train(config(packed, tmp_path / "whole", model=net))
    train.train(config(packed, tmp_path / "parts", model=net, epochs=stop))
    train.train(config(packed, tmp_path / "parts", model=net, resume=True))
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("handlers", [{}, {"plateau": {}, "best": {"ranked": []}}])
def test_a_state_that_lacks_the_schedule_is_damaged(packed, tmp_path, handlers):
    run = tmp_path / "run"
    train.train(config(packed, run, epochs=1))
    path = run / "last" / "state.json"
    files.write_json(path, {**files.read_json(path), "handlers": handlers})
    with pytest.raises(XenonError, match=f"{run}: damaged"):
        train.train(config(packed, run, resume=True))


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), 2, 3])
def test_frozen_epochs_resume_exactly(packed, tmp_path, stop):
    network.build(NETS[1]).save_parameters(str(tmp_path / "start.params"))
    options = {"no_pretrained": False, "pretrained": str(tmp_path / "start.params")}
    options["freeze_epochs"] = 2
    train.train(config(packed, tmp_path / "whole", **options))
    train.train(config(packed, tmp_path / "parts", epochs=stop, **options))
    (tmp_path / "start.params").unlink()  # needed for the first epoch only
    train.train(config(packed, tmp_path / "parts", resume=True, **options))
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_plateau_is_remembered(packed, tmp_path):
    options = {"min_delta": 1e9, "patience": 2, "epochs": 5}  # nothing is ever better
    train.train(config(packed, tmp_path / "whole", **options))
    for epochs in (2, 4, 5):
        options["epochs"] = epochs
        options["resume"] = epochs > 2
        train.train(config(packed, tmp_path / "parts", **options))
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    rates = [float(row["lr"]) for row in outcome(tmp_path / "parts")[0]]
    assert rates == pytest.approx([1e-3] * 3 + [1e-4] * 2)


def test_a_run_that_has_ended_is_left_as_it_is(packed, tmp_path, caplog):
    options = {"min_delta": 1e9, "min_lr": 1e-3, "epochs": 3}
    train.train(config(packed, tmp_path / "run", **options))
    before = outcome(tmp_path / "run")
    assert len(before[0]) == 2  # it ended by itself
    train.train(config(packed, tmp_path / "run", resume=True, **options))
    assert outcome(tmp_path / "run") == before


def test_where_there_is_no_run_there_is_none_to_resume(packed, tmp_path):
    with pytest.raises(XenonError, match="run: no such folder; make a run"):
        train.train(config(packed, tmp_path / "run", resume=True))


@pytest.fixture(scope="module")
def begun(packed, tmp_path_factory):
    run = tmp_path_factory.mktemp("begun") / "run"
    train.train(config(packed, run, epochs=1))
    return run


@pytest.mark.parametrize(
    "change",
    [
        {"model": "mobilenet0.5"},
        {"lr": 2e-3},
        {"batch_size": 4},
        {"seed": 1},
        {"loss": "plain"},
        {"patience": 3},
        {"pooled_weights": True},
    ],
)
def test_another_net_or_recipe_is_refused_by_its_flag(packed, begun, change):
    (name,) = change
    flag = "--" + name.replace("_", "-")
    with pytest.raises(XenonError, match=f"{flag} was .* and is {change[name]}"):
        train.train(config(packed, begun, resume=True, **change))


def test_other_data_is_refused(begun, tmp_path):
    splits = {
        "train": synthetic.labelled(20, seed=5),
        "valid": synthetic.labelled(8, seed=9),
    }
    other = synthetic.pack(tmp_path / "other", splits)
    with pytest.raises(XenonError, match="other: other data|holds other data"):
        train.train(config(other, begun, resume=True))


def test_other_first_weights_are_refused(packed, tmp_path):
    start = tmp_path / "start.params"
    network.build(NETS[1]).save_parameters(str(start))
    options = {"no_pretrained": False, "pretrained": str(start)}
    data = train_inputs.open_data(config(packed, tmp_path / "run", **options), packed)
    given = config(packed, tmp_path / "run", **options)
    found = train_inputs.find_pretrained(given, None, lambda *a, **k: None)
    Run.create(given.run, train_record.describe(given, data, found.record())).close()
    network.build(NETS[1]).save_parameters(str(start))  # others
    with pytest.raises(XenonError, match="not the weights that .* started from"):
        train.train(config(packed, tmp_path / "run", resume=True, **options))


class Hostile:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self._mark}",)


@pytest.mark.parametrize(
    "name", ["last/trainer-0001.states", "last/net-0001.params", "params/*"]
)
def test_a_hostile_run_executes_nothing(packed, begun, tmp_path, name):
    """Whoever forges a file of a run can forge its checksums, too."""
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    (file,) = run.glob(name)
    file.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    digest = files.sha256(file)
    state = files.read_json(run / "last" / "state.json")
    best = files.read_json(run / "best.json")
    if file.name in state["files"]:
        state["files"][file.name] = digest
    else:
        state["best"][0]["sha256"] = best["best"][0]["sha256"] = digest
    files.write_json(run / "last" / "state.json", state)
    files.write_json(run / "best.json", best)
    if file.name in state["files"]:
        with pytest.raises(XenonError, match=file.name):
            train.train(config(packed, run, resume=True))
    else:
        with pytest.raises(XenonError, match=file.name):
            network.build(NETS[1], Run.open(run).members()[0].params)
    assert not (tmp_path / "executed").exists()


def start(packed, run, *flags):
    """Begin xenon-train in a process group of its own."""
    program = Path(sys.executable).with_name("xenon-train")
    command = [program, packed.folder, run, *map(str, flags)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(packed, run, *flags):
    """Go on to the end."""
    with start(packed, run, "--resume", *flags) as process:
        said = process.stderr.read()
    assert process.returncode == 0, said


def flags(net, epochs):
    return (
        "--model",
        net,
        "--no-pretrained",
        "--ctx=cpu()",
        "--epochs",
        epochs,
        "--lr=1e-3",
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_cleanly_and_says_how_to_go_on(
    packed, tmp_path, number, status
):
    with start(packed, tmp_path / "run", *flags(NETS[1], 10_000)) as process:
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                break
        os.killpg(process.pid, number)
        said = process.stderr.read()
    assert process.returncode == status
    assert f"xenon-train {packed.folder} {tmp_path / 'run'} --resume" in said
    assert "Traceback" not in said
    done = len(outcome(tmp_path / "run")[0])
    train.train(config(packed, tmp_path / "run", epochs=done + 2, resume=True))
    train.train(config(packed, tmp_path / "whole", epochs=done + 2))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_disk_that_takes_no_more_ends_the_run_which_then_goes_on(packed, tmp_path):
    """The system refuses to write more than a megabyte; Adam's state is larger."""
    run = tmp_path / "run"
    limited = [
        "bash",
        "-c",
        'ulimit -f 1024; exec "$@"',
        "-",
        Path(sys.executable).with_name("xenon-train"),
        packed.folder,
        run,
        *map(str, flags(NETS[1], 2)),
    ]
    done = subprocess.run(limited, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {run}: cannot be written: File too large; the epochs finished before "
        f"are complete: fix the cause, and continue with --resume"
    )
    assert not list(run.rglob("*.partial"))
    train.train(config(packed, run, epochs=2, resume=True))
    train.train(config(packed, tmp_path / "whole", epochs=2))
    assert outcome(run) == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
def test_runs_killed_at_random_instants_end_as_one_that_was_not(packed, tmp_path, net):
    """Twenty kills a net, each somewhere in the life of a process of xenon-train."""
    epochs = 40
    train.train(config(packed, tmp_path / "whole", model=net, epochs=epochs))
    expected = outcome(tmp_path / "whole")
    draw = random.Random(7)
    run = tmp_path / "run"
    kills, finished = 0, []
    while kills < 20:
        going = ["--resume"] if (run / "run.json").exists() else flags(net, epochs)
        with start(packed, run, *going) as process:
            for line in process.stderr:  # wait until it trains, and then a while
                if re.search(r"epoch \d+(/| was finished)", line):
                    break
            time.sleep(draw.uniform(0, 0.3))
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode == 0:
            break  # it was quicker
        kills += 1
        rows, sums, _, _ = outcome(run)
        assert rows == expected[0][: len(rows)]
        for member in Run.open(run).members():
            member.check()
        finished.append(len(rows))
    assert kills >= 15
    assert finished == sorted(finished)
    finish(packed, run)
    assert outcome(run) == expected
