"""Damaged files cause an error that names the file, or have no effect.

`support/fuzzing.py` randomly damages a file of a packed folder, a run or a data set,
and runs a command on it in a separate process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from support import fuzzing, paths

from xenon_mx.data import images, packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files
from xenon_mx.runs.run_folder import Run


def through_commands(cases, seed, folder):
    """Start the cases in a separate process, into which MXNet is newly imported."""
    command = [
        sys.executable,
        "-m",
        "support.fuzzing",
        *map(str, (cases, seed, folder)),
    ]
    environment = {**os.environ, "PYTHONPATH": paths.PYTHONPATH}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def count_refused(process, cases):
    """Check that each case was refused or right; return how many were refused."""
    results = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    assert len(results) == cases
    assert [r for r in results if r[3] not in ("right", "refused")] == []
    return Counter(outcome for _, _, _, outcome in results)["refused"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a data set, its packed folder and a run."""
    folder = tmp_path_factory.mktemp("damage") / "cases"
    assert count_refused(through_commands(4, 3, folder), 4) > 0
    return folder / "whole"


def test_damaged_files_are_refused_or_read_as_they_were(whole, tmp_path):
    rng, refused = random.Random(5), 0
    readers = {
        "packed": lambda folder: [
            packed_folder.open_packed(folder).split(name) for name in ("train", "valid")
        ],
        "run": read_run,
    }
    for number in range(150):
        name = ("packed", "run")[number % 2]
        copy = tmp_path / str(number)
        shutil.copytree(whole / name, copy)
        files = [f for f in sorted(copy.rglob("*")) if f.suffix in KINDS]
        # An output, which is not read with the run.
        files = [f for f in files if f.name != "validation.csv.json"]
        file = rng.choice(files)
        before = file.read_bytes()
        file.write_bytes(fuzzing.damage(rng, before))
        refusal = refused_by(readers[name], copy)
        if refusal:
            refused += 1
            assert file.stem in refusal
        else:
            assert same(file.read_bytes(), before), file
        shutil.rmtree(copy)
    assert refused > 110


KINDS = {".rec", ".idx", ".lst", ".json", ".params", ".states"}


def refused_by(reader, *arguments):
    """Return the message of a reader's error; None if it raises none."""
    try:
        reader(*arguments)
    except XenonError as error:
        return str(error)
    return None


def read_run(folder):
    run = Run.open(folder)
    run.seen_studies()
    for member in run.members():
        member.check()
        weight_files.read(member.params)
    run.resume(run.meta.settings)
    run.close()


def same(content, before):
    """Return whether two files are equal, or equal as JSON."""
    with suppress(ValueError):
        return json.loads(content) == json.loads(before)
    return content == before


def test_damaged_radiographs_are_refused_or_decode_as_they_were(whole):
    rng, refused = random.Random(6), 0
    files = sorted((whole / "source").rglob("*.png"))
    for _ in range(50):
        file = rng.choice(files)
        data = file.read_bytes()
        damaged = fuzzing.damage(rng, data)
        refusal = refused_by(images.decode, damaged, file)
        if refusal:
            refused += 1
            assert file.name in refusal
        else:
            assert np.array_equal(images.decode(damaged), images.decode(data))
    assert refused > 35


@pytest.mark.slow
def test_a_thousand_damaged_files_through_the_commands(tmp_path):
    processes = [through_commands(500, seed, tmp_path / str(seed)) for seed in (1, 2)]
    assert sum(count_refused(process, 500) for process in processes) > 700
