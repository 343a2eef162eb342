"""TensorBoard's events: read back by a reader of our own, and never in the way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic
from support import paths, tensorboard_events

from xenon_mx.runs import tensorboard


def files_of(folder):
    return sorted(folder.glob("events.out.tfevents.*"))


def test_events_are_what_tensorboard_reads(tmp_path):
    writer = tensorboard.Writer(tmp_path)
    writer.add(1, {"val_loss": 0.5, "kappa": 0.25}, wall_time=1234.5)
    before = time.time()
    writer.add(2, {"val_loss": 0.125})
    (file,) = files_of(tmp_path)  # before it is closed: whoever looks on sees them
    first, *scalars = tensorboard_events.read(file)
    writer.close()
    assert first.file_version == "brain.Event:2"
    found = [(e.step, v.tag, v.simple_value) for e in scalars for v in e.summary.value]
    assert found == [(1, "val_loss", 0.5), (1, "kappa", 0.25), (2, "val_loss", 0.125)]
    assert scalars[0].wall_time == 1234.5
    assert before <= scalars[-1].wall_time <= time.time()


def test_a_link_of_the_files_name_is_not_followed(tmp_path):
    """Its name holds the second; whoever may write to the folder can foresee it."""
    target = tmp_path / "precious"
    target.write_text("precious")
    writer = tensorboard.Writer(tmp_path)
    now = int(time.time())
    for second in range(now - 1, now + 60):
        (tmp_path / tensorboard.file_name(second)).symlink_to(target)
    writer.add(1, {"kappa": 0.5})
    writer.close()
    assert target.read_text() == "precious"
    (file,) = [file for file in files_of(tmp_path) if not file.is_symlink()]
    assert len(tensorboard_events.read(file)) == 2


def test_only_files_of_these_tags_are_removed(tmp_path):
    for tag in ("kappa", "somebody's"):
        (tmp_path / tag).mkdir()
        writer = tensorboard.Writer(tmp_path / tag)
        writer.add(1, {"kappa": 0.5, tag: 0.5})
        writer.close()
    ours, theirs = (
        files_of(tmp_path / tag)[0].read_bytes() for tag in ("kappa", "somebody's")
    )
    run = tmp_path / "run"
    run.mkdir()
    for name, content in (
        ("ours", ours),
        ("cut", ours[:-5]),  # as a killed process leaves it
        ("theirs", theirs),
        ("notes", b"a user's notes, of some length"),
        ("broken", theirs.replace(b"brain", b"brine")),
    ):
        (run / f"events.out.tfevents.{name}").write_bytes(content)
    (run / "events.out.tfevents.link").symlink_to(tmp_path / "kappa")
    (run / "events.out.tfevents.folder").mkdir()
    tensorboard.remove(run, {"kappa"})
    left = {file.name.rpartition(".")[2] for file in files_of(run)}
    assert left == {"theirs", "notes", "broken", "link", "folder"}


# A disk that fills: a file may not grow beyond 400 bytes, until it may.
FULL = """
import logging, resource, sys
from pathlib import Path
from xenon_mx.runs import tensorboard

logging.basicConfig(format="%(levelname)s %(message)s")
writer = tensorboard.Writer(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
for step in range(1, 21):
    if step == int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    writer.add(step, {"kappa": 0.5, "auroc": 0.5})
writer.close()
"""


@pytest.mark.parametrize("freed", [0, 15])
def test_a_full_disk_is_one_warning_and_leaves_whole_events(tmp_path, freed):
    words = [sys.executable, "-c", FULL, str(tmp_path), str(freed)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"WARNING {tmp_path}: ")
    assert "File too large" in line
    steps = [step for step, _ in tensorboard_events.scalars(tmp_path, "kappa")]
    assert steps == list(range(1, len(steps) + 1))
    if freed:
        assert len(steps) == 20
    else:
        assert 1 < len(steps) < 20


def test_a_folder_that_cannot_be_written_to_is_one_warning(tmp_path, caplog):
    writer = tensorboard.Writer(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            writer.add(step, {"kappa": 0.5})
    writer.close()
    assert len(caplog.records) == 1
    assert "No such file or directory" in caplog.text


# /dev/full takes the place of the file, and so of a disk that is full for it alone.
FULL_FOR_EVENTS = """
from xenon_mx import cli
from xenon_mx.runs import tensorboard

tensorboard._create = lambda folder: open("/dev/full", "wb", buffering=0)
cli.train()
"""


@pytest.mark.slow
def test_training_ends_well_without_its_events(tmp_path):
    splits = {"train": synthetic.labelled(8), "valid": synthetic.labelled(4, seed=9)}
    synthetic.pack(tmp_path / "packed", splits)
    options = ["--model", "mobilenet0.25", "--no-pretrained", "--ctx", "cpu()"]
    words = [sys.executable, "-c", FULL_FOR_EVENTS, "packed", "run", *options]
    done = subprocess.run(
        [*words, "--epochs", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    training, _, _ = done.stderr.partition("\npredicting ")
    assert training.count("warning: ") == 1
    assert "warning: run: TensorBoard's events cannot be written: No space left" in (
        done.stderr
    )
    assert "next: xenon-report" in done.stderr


# Without /dev/shm there are no semaphores, and multiprocessing says so by OSError.
WITHOUT_SHM = """
import multiprocessing.context, sys, threading
from pathlib import Path

def none(*_, **__):
    raise OSError(38, "Function not implemented")

for each in ("Lock", "Queue", "Semaphore", "BoundedSemaphore"):
    setattr(multiprocessing.context.BaseContext, each, none)
threading.Thread.start = none

from test_run_folder import META, save
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.top_epochs import TopEpochs

run = Run.create(Path(sys.argv[1]), META)
save(run, TopEpochs(1), 1, 0.5)
run.close()
"""


def test_events_need_no_shared_memory_and_no_thread(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SHM, str(tmp_path / "run")],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": paths.PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert tensorboard_events.scalars(tmp_path / "run", "val_loss") == [(1, 0.5)]
