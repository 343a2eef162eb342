"""The rule for outputs: which existing files are replaced, and which never are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import paths

from xenon_mx.data import output_records, outputs
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import files

FIRST, OTHER = outputs.made_from({"run": 1}), outputs.made_from({"run": 2})
RECORDS = {
    ".csv": output_records.BesideRecord(),
    ".html": output_records.LastLineRecord(),
}
KINDS = pytest.mark.parametrize("suffix", RECORDS)


def one(path, overwrite=False, writer="xenon-predict"):
    wanted = outputs.Output(path, "OUT", (path.suffix,), RECORDS[path.suffix])
    return outputs.Outputs(writer, [wanted], overwrite)


def write(path, data=b"a,b\n", origin=FIRST, inputs=(), **options):
    command = one(path, **options)
    command.claim(origin, inputs)
    command.write({path: data})


@KINDS
def test_what_xenon_wrote_for_the_same_is_replaced(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    for data in (b"1\n", b"2\n", b"1\n"):
        write(out, data)
        assert out.read_bytes().startswith(data)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".xenon")]


@KINDS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("edited", "was changed since xenon-predict wrote it"),
        ("other run", "was made from other inputs or another run"),
        ("other command", "was not written by xenon-predict"),
        ("foreign", "was not written by xenon-predict"),
    ],
)
def test_any_other_file_needs_overwrite(tmp_path, suffix, change, reason):
    out = tmp_path / f"out{suffix}"
    if change == "foreign":
        out.write_text("study,study_type,\n")
    else:
        write(
            out, writer="xenon-report" if change == "other command" else "xenon-predict"
        )
    if change == "edited":
        out.write_bytes(b"x" + out.read_bytes())
    before = out.read_bytes()
    origin = OTHER if change == "other run" else FIRST
    with pytest.raises(XenonError, match=f"{reason}.*or use --overwrite"):
        write(out, origin=origin)
    assert out.read_bytes() == before
    write(out, b"new\n", origin=origin, overwrite=True)
    assert out.read_bytes().startswith(b"new\n")
    write(out, b"newer\n", origin=origin)  # xenon's own by now


def test_a_record_says_what_the_table_was_made_from(tmp_path):
    write(tmp_path / "out.csv", b"a,b\n")
    content = json.loads((tmp_path / "out.csv.json").read_text())
    assert content["written_by"] == "xenon-predict"
    assert content["made_from"] == FIRST
    assert content["sha256"] == [files.sha256(tmp_path / "out.csv")]


def test_notes_are_of_the_very_bytes_that_they_were_written_with(tmp_path):
    """Also when a process was killed between the record and its file."""
    table, record = tmp_path / "out.csv", output_records.BesideRecord()
    for data in (b"old\n", b"new\n"):
        notes = {"note": data.decode(), "made_from": "no note replaces this"}
        added = record.add(table, data, "xenon-predict", FIRST, notes)
        beside, file = added
        beside.write_bytes(added[beside])
        if data == b"new\n":
            assert (
                "out.csv.json is of another file"
                in output_records.read_notes(table).reason
            )
            assert record.read(table).is_unchanged  # so that it may be replaced
        file.write_bytes(data)
        content = output_records.read_notes(table).content
        assert (content["note"], content["made_from"]) == (data.decode(), FIRST)


def test_a_users_own_file_beside_a_table_is_not_replaced(tmp_path):
    (tmp_path / "out.csv.json").write_text('{"mine": 1}')
    with pytest.raises(XenonError, match=r"out\.csv\.json: exists and is not a record"):
        write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv.json").read_text() == '{"mine": 1}'
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_an_output(tmp_path, overwrite):
    film = tmp_path / "film.csv"
    film.write_text("precious")
    (tmp_path / "link.csv").symlink_to(film)
    os.link(film, tmp_path / "hard.csv")
    (tmp_path / "out.csv.json").symlink_to(film)
    for name in ("film.csv", "link.csv", "hard.csv", "out.csv"):
        with pytest.raises(XenonError, match="is an input of this command"):
            write(tmp_path / name, inputs=[film], overwrite=overwrite)
    assert film.read_text() == "precious"


@pytest.mark.parametrize("name", ["train_image_paths.csv", "valid_labeled_studies.csv"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_data_sets_own_file_is_never_an_output(tmp_path, name, exists):
    if exists:
        (tmp_path / name).write_text("precious")
    with pytest.raises(XenonError, match="a data set's own file"):
        one(tmp_path / name, overwrite=True)
    (tmp_path / "link.csv").symlink_to(tmp_path / name)
    with pytest.raises(XenonError, match="a data set's own file"):
        one(tmp_path / "link.csv", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_write_protected_file_is_not_replaced(tmp_path, overwrite):
    write(tmp_path / "out.csv")
    (tmp_path / "out.csv").chmod(0o444)
    with pytest.raises(XenonError, match="is write-protected"):
        write(tmp_path / "out.csv", overwrite=overwrite)


def test_an_empty_file_is_no_loss(tmp_path):
    (tmp_path / "out.csv").touch()
    write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b"a,b\n"


def test_impossible_names_are_refused_immediately(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "ring.csv").symlink_to("ring.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for path, reason in (
        (tmp_path / "folder.csv", "is a folder"),
        (tmp_path / "ring.csv", "a link that leads to itself"),
        (tmp_path / "no" / "out.csv", "folder does not exist"),
        (tmp_path / f"{'x' * 252}.csv", "name is too long"),
        # With its record, the longest name that still works is of 250 bytes.
        (tmp_path / f"{'x' * 247}.csv", "name is too long"),
    ):
        with pytest.raises(XenonError, match=reason):
            one(path)
    write(tmp_path / f"{'x' * 246}.csv")
    with pytest.raises(XenonError, match="not a regular file"):
        write(tmp_path / "pipe.csv")
    with pytest.raises(ConfigError, match=r"not named \.csv"):
        outputs.Outputs(
            "x",
            [outputs.Output(tmp_path / "a.rec", "OUT", (".csv",), RECORDS[".csv"])],
            False,
        )


def test_two_outputs_never_share_a_file_not_even_a_record(tmp_path):
    record = output_records.BesideRecord()
    for names in (("a.csv", "a.csv"), ("a.csv", "a.csv.json")):
        wanted = [
            outputs.Output(tmp_path / name, "OUT", (".csv", ".json"), record)
            for name in names
        ]
        with pytest.raises(XenonError, match="is named twice"):
            outputs.Outputs("x", wanted, False)


KILLED = """
import os, signal, sys
from pathlib import Path
from test_outputs import write

calls = int(sys.argv[2])
replace = os.replace

def dying(*args, **kwargs):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*args, **kwargs)

os.replace = dying
write(Path(sys.argv[1]), b"second\\n")
"""


@KINDS
@pytest.mark.parametrize("calls", [1, 2])
def test_after_a_kill_between_two_files_the_same_command_works(tmp_path, suffix, calls):
    out = tmp_path / f"out{suffix}"
    write(out, b"first\n")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, out, str(calls)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": paths.PYTHONPATH},
    )
    assert (done.returncode != 0) == (calls == 1 or suffix == ".csv")
    write(out, b"third\n")
    assert out.read_bytes().startswith(b"third\n")
    # The killed process's temporary file is removed.
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".xenon")]


TWO_AT_ONCE = """
import sys
from pathlib import Path
from test_outputs import write
from xenon_mx.errors import XenonError

path, origin, data = Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
try:
    for _ in range(50):
        write(path, data * 1000, origin)
except XenonError as error:
    sys.exit(str(error))
"""


def at_once(out, *origins):
    """Write a table from several processes at once, 50 times each."""
    code = [sys.executable, "-c", TWO_AT_ONCE, out]
    processes = [
        subprocess.Popen(
            [*code, origin, f"{number}\n"],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": paths.PYTHONPATH},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, origin in enumerate(origins)
    ]
    return [(p.communicate(timeout=120)[1], p.returncode) for p in processes]


def test_two_processes_of_one_run_leave_the_table_of_one_of_them(tmp_path):
    out = tmp_path / "out.csv"
    assert at_once(out, FIRST, FIRST) == [("", 0), ("", 0)]
    assert out.read_bytes() in (b"0\n" * 1000, b"1\n" * 1000)
    write(out)  # its record matches it
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.csv.json"]


def test_of_two_processes_of_other_runs_one_is_refused(tmp_path):
    out = tmp_path / "out.csv"
    ends = at_once(out, FIRST, OTHER)
    assert sorted(status for _, status in ends) == [0, 1]
    winner = [status for _, status in ends].index(0)
    assert out.read_bytes() == f"{winner}\n".encode() * 1000
    (message,) = (message for message, status in ends if status)
    assert "was made from other inputs or another run" in message
    write(out, origin=(FIRST, OTHER)[winner])


def test_a_link_or_a_pipe_of_an_old_temporary_name_is_neither_followed_nor_waited_for(
    tmp_path,
):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out.csv.partial").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "out.csv.json.partial")
    write(tmp_path / "out.csv")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "out.csv.partial").is_symlink()
