"""Two processes that use the same files: they neither mix nor lose anything.

The slow tests repeat each case 50 times, with random timing.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import synthetic
from support.runs import NET, train_config

from xenon_mx.commands import train
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.errors import XenonError
from xenon_mx.inference import cam_folder
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runtime import files, progress, staging

TRAIN = ["--model", NET, "--no-pretrained", "--ctx=cpu()", "--lr=1e-3"]
TIMES = [1, pytest.param(50, marks=pytest.mark.slow)]
ONLY_SLOW = [pytest.param(50, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "packed"
    splits = {"train": synthetic.labelled(24), "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits)


config = partial(train_config, lr=1e-3, epochs=2)


def start(program, *args, **options):
    command = [Path(sys.executable).with_name(program), *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def wait_for(path, process):
    """Wait until a process has written a file."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


# --- a run ---


@pytest.fixture(scope="module")
def begun(packed, tmp_path_factory):
    """A run of one epoch, to be copied."""
    run = tmp_path_factory.mktemp("begun") / "run"
    train.train(config(packed, run, epochs=1))
    return run


@pytest.mark.parametrize(
    ("how", "times"),
    [
        ("moved", 1),
        pytest.param("moved", 50, marks=pytest.mark.slow),
        pytest.param("removed", 50, marks=pytest.mark.slow),
    ],
)
def test_a_new_run_at_the_path_of_another_is_separate(packed, tmp_path, how, times):
    """The first process ends with one line, and adds no file to the second run."""
    draw = random.Random(3)
    for number in range(times):
        run, kept = tmp_path / f"{number}", tmp_path / f"{number}-kept"
        first = start("xenon-train", packed.folder, run, *TRAIN, "--epochs=100000")
        wait_for(run / "last" / "state.json", first)
        time.sleep(draw.uniform(0, 0.3))
        os.rename(run, kept)
        while how == "removed" and kept.exists():
            # A save in progress may add a file to a folder that was just emptied.
            shutil.rmtree(kept, ignore_errors=True)
        best = train.train(config(packed, run, seed=number))
        output = first.communicate(timeout=60)[1].splitlines()
        assert first.returncode == 1
        assert output[-1].startswith(f"error: {run}: was moved or removed during")
        assert not [line for line in output if "Traceback" in line]
        again = Run.open(run)
        assert again.meta.settings["seed"] == number
        assert len(again.log()) == 2
        for member in best:
            member.check()
        assert len(list((run / "params").iterdir())) == 2
        if how == "moved":  # the moved run has complete checkpoints
            for member in Run.open(kept).members():
                member.check()


@pytest.mark.slow
def test_a_moved_run_can_be_resumed_at_its_new_path(packed, tmp_path):
    run, kept = tmp_path / "run", tmp_path / "kept"
    with start("xenon-train", packed.folder, run, *TRAIN, "--epochs=100000") as first:
        wait_for(run / "last" / "state.json", first)
        os.rename(run, kept)
    done = len(Run.open(kept).log())
    train.train(config(packed, kept, epochs=done + 1, resume=True))
    train.train(config(packed, tmp_path / "whole", epochs=done + 1))
    expected, resumed = ((tmp_path / name / "params") for name in ("whole", "kept"))
    assert {f.name: files.sha256(f) for f in resumed.iterdir()} == {
        f.name: files.sha256(f) for f in expected.iterdir()
    }


@pytest.mark.parametrize("times", ONLY_SLOW)
def test_of_two_that_start_the_same_run_one_is_rejected(packed, tmp_path, times):
    for number in range(times):
        run = tmp_path / str(number)
        both = [
            start("xenon-train", packed.folder, run, *TRAIN, "--epochs=2")
            for _ in range(2)
        ]
        output = [process.communicate(timeout=120)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 1]
        lost = output[[process.returncode for process in both].index(1)]
        last = lost.splitlines()[-1]
        assert "another process trains it" in last or "contains a run already" in last
        assert len(Run.open(run).log()) == 2
        for member in Run.open(run).members():
            member.check()


@pytest.mark.parametrize("name", ["params", "last"])
def test_a_link_in_the_place_of_a_folder_of_a_run_is_refused_and_left_alone(
    packed, begun, tmp_path, name
):
    run, precious = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(begun, run)
    (run / name).rename(precious)
    (precious / "net-0042.params").write_text("mine")
    (run / name).symlink_to(precious)
    before = sorted(os.listdir(precious))
    with pytest.raises(XenonError, match=f"{name}: is a link"):
        train.train(config(packed, run, resume=True))
    assert sorted(os.listdir(precious)) == before


@pytest.mark.parametrize(
    "name", ["log.csv", "best.json", "run.json", "last/state.json", "params/*"]
)
def test_a_link_in_the_place_of_a_file_of_a_run_is_refused_and_not_followed(
    packed, begun, tmp_path, name
):
    run, precious = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(begun, run)
    (file,) = run.glob(name)
    file.rename(precious)
    file.symlink_to(precious)
    before = precious.read_bytes()
    with pytest.raises(XenonError, match=f"{file.name}: is a link"):
        train.train(config(packed, run, resume=True))
    assert precious.read_bytes() == before


def test_only_files_with_names_of_a_run_are_ever_removed(packed, begun, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    own = ("notes.txt", "notes.partial", "other-0001.params", "net-1.params")
    for folder in ("params", "last", "."):
        for name in own:
            (run / folder / name).write_text("mine")
    train.train(config(packed, run, epochs=3, resume=True))
    for folder in ("params", "last", "."):
        assert all((run / folder / name).read_text() == "mine" for name in own)


# --- a packed folder ---


def test_a_run_ends_if_its_packed_folder_is_replaced(packed, tmp_path):
    folder = Path(shutil.copytree(packed.folder, tmp_path / "packed"))
    run = tmp_path / "run"
    splits = {
        "train": synthetic.labelled(24, seed=5),
        "valid": synthetic.labelled(8, seed=6),
    }
    other = synthetic.pack(tmp_path / "other", splits)

    def replacing(total, unit, desc):
        if desc.startswith("validating 1/"):
            for name in ("train.rec", "train.idx", "train.lst"):
                os.replace(other.folder / name, folder / name)
        return progress.silent(total=total, unit=unit, desc=desc)

    there = packed_folder.open_packed(folder)
    with pytest.raises(XenonError) as caught:
        train.train(config(there, run, epochs=100), replacing)
    assert str(caught.value).startswith(f"{folder}/train.")
    assert "was packed again, changed or removed" in str(caught.value)
    assert len(Run.open(run).log()) == 1
    for member in Run.open(run).members():
        member.check()


def test_an_opened_packed_folder_never_reads_a_replacement(packed, tmp_path):
    """Neither lists nor records nor MXNet's loader."""
    folder = Path(shutil.copytree(packed.folder, tmp_path / "packed"))
    split = packed_folder.open_packed(folder).split("train")
    shutil.copy(folder / "train.rec", tmp_path / "same")
    os.replace(tmp_path / "same", folder / "train.rec")  # even with the same bytes
    with pytest.raises(XenonError, match=r"train\.rec: was packed again"):
        list(split.images())
    with pytest.raises(XenonError, match=r"train\.rec: was packed again"):
        record_iter.evaluation_batches(split, 4)
    (folder / "train.lst").unlink()
    with pytest.raises(XenonError, match=r"train\.lst"):
        split.rows()


@pytest.mark.parametrize("times", TIMES)
def test_of_two_that_pack_into_one_folder_one_is_rejected(mura_tree, tmp_path, times):
    source = mura_tree(patients=3)
    for number in range(times):
        out = tmp_path / f"out{number}"
        both = [start("xenon-pack", source, out, "--size=32") for _ in range(2)]
        output = [process.communicate(timeout=120)[1] for process in both]
        statuses = [process.returncode for process in both]
        assert sorted(statuses) in ([0, 1], [0, 0]), output
        for status, lines in zip(statuses, output):
            assert (
                status == 0
                or "another process is writing" in lines
                or ("already holds" in lines)
            )
        assert packed_folder.open_packed(out).split("train").rows()
        assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_packing_killed_while_it_moves_files_can_be_repeated(mura_tree, tmp_path):
    source, out = mura_tree(patients=2), tmp_path / "out"
    code = (
        "import os, signal, sys; from xenon_mx import cli; replace = os.replace\n"
        "def replace_or_die(old, new, **at):\n"
        "    if str(new).endswith('valid.idx'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(old, new, **at)\n"
        f"os.replace = replace_or_die; sys.argv = ['', {str(source)!r}, {str(out)!r}, "
        "'--size=32']; cli.pack()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert (out / "train.rec").exists()
    assert not (out / "pack.json").exists()
    with start("xenon-pack", source, out, "--size=32") as process:
        output = process.communicate()[1]
    assert process.returncode == 0, output
    assert packed_folder.open_packed(out).split("valid").rows()
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_a_users_file_is_not_mistaken_for_a_leftover(mura_tree, tmp_path):
    source, out = mura_tree(patients=2), tmp_path / "out"
    leftover = out / ".xenon-0123456789abcdef.partial"
    leftover.mkdir(parents=True)
    sums = {"train.rec": "0" * 64, "pack.json": "1" * 64}
    manifest = {"mark": "pack.json", "files": sums, "replaced": {}}
    files.write_json(leftover / ".manifest.json", manifest)
    (out / "train.rec").write_text("mine")
    with start("xenon-pack", source, out, "--size=32") as process:
        output = process.communicate()[1]
    assert process.returncode == 1
    assert "already holds train.rec" in output
    assert (out / "train.rec").read_text() == "mine"


# --- class activation maps ---

MAPS = """
import sys, time
from pathlib import Path
import numpy as np
from xenon_mx.errors import XenonError
from xenon_mx.inference import cam_folder
from xenon_mx.runs.run_meta import Preprocessing

out, origin, value = Path(sys.argv[1]), sys.argv[2] * 64, float(sys.argv[3])
paths = [f"study{i}/image.png" for i in range(20)]
radiograph = np.zeros((40, 30), np.uint8)
cam = np.full((2, 2), value, np.float32)
try:
    seen = Preprocessing(32, "pad")
    with cam_folder.CamFolder(out, paths, seen, (0, 32), 1, origin) as folder:
        for path in paths:
            folder.add(path, radiograph, cam)
        folder.complete()
except XenonError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize("times", TIMES)
def test_two_predictions_lose_no_map_of_one_folder(tmp_path, times):
    for number in range(times):
        out = tmp_path / str(number)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", MAPS, out, str(i), str(i + 1)],
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]
        output = [process.communicate(timeout=60)[1] for process in both]
        statuses = [process.returncode for process in both]
        assert sorted(statuses) == [0, 1], output
        assert output[statuses.index(1)].startswith(f"error: {out}: ")
        arrays = sorted(out.rglob(f"*{cam_folder.ARRAY}"))
        assert len(arrays) == 20
        values = {float(np.load(path)[0, 0]) for path in arrays}
        assert values == {statuses.index(0) + 1.0}
        assert (out / cam_folder.MAPS_JSON).is_file()


def test_the_loser_does_not_remove_the_folder_of_the_winner(tmp_path, monkeypatch):
    """Both found no folder, and the winner has written nothing into it yet."""
    out = tmp_path / "out"

    class Winner(staging.Staging):
        def check(self):
            monkeypatch.setattr(Path, "exists", lambda path: False)
            with pytest.raises(XenonError, match="another process is writing"):
                staging.Staging(out, "marker").__enter__()
            monkeypatch.undo()

    with Winner(out, "marker") as winner:
        assert winner.folder.is_dir()


def test_a_moved_run_keeps_its_identity(packed, tmp_path):
    run = tmp_path / "run"
    train.train(config(packed, run, epochs=1))
    before = Run.open(run).identity
    train.train(config(packed, run, epochs=2, resume=True))
    os.rename(run, tmp_path / "moved")
    assert Run.open(tmp_path / "moved").identity == before
    train.train(config(packed, run, epochs=1))  # the same settings, a new run
    assert Run.open(run).identity != before
    assert RUN_JSON in os.listdir(run)
