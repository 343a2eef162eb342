"""xenon-doctor: its lines, its file, its exit status, and faults that are put in."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support.checks import Told
from support.child_processes import run_until_written, wait_for_end
from support.paths import ROOT
from support.runs import NET

import xenon_mx as xenon
from xenon_mx import cli
from xenon_mx.commands import doctor
from xenon_mx.config import DoctorConfig
from xenon_mx.diagnosis import drawn_images, first_steps, isolated
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import files

COMMAND = """
from xenon_mx import main
main.doctor()
"""
NO_CHECKS = f"""
from xenon_mx.commands import doctor
doctor._CHECKS = {{}}
{COMMAND}
"""
KILLED_WHILE_REMOVING = f"""
import os, signal
from xenon_mx.runtime import staging
rmtree = staging.shutil.rmtree
def remove(*args, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    rmtree(*args, **options)
staging.shutil.rmtree = remove
{NO_CHECKS}
"""
# Its first check writes the ids of two processes, and hangs.
HANGING = f"""
from xenon_mx.diagnosis import isolated
run = isolated.run
def hang(name, *args, **options):
    return run("checks", *args, package="support", how="hang", file={{file!r}})
isolated.run = hang
{COMMAND}
"""
SMALL = {"model": NET, "size": 32, "ctx": "cpu(0),cpu(1)"}
NAMES = (
    *("xenon", "Python", "packages", "processor", "memory", "disk", "NVIDIA's driver"),
    *("MXNet", "CUDA", "device cpu(0)", "device cpu(1)"),
    *("logits, cpu(0)", "gradients, cpu(0)"),
    "BatchNorm's statistics after 3 steps, cpu(0)",
    *("logits, cpu(1)", "gradients, cpu(1)"),
    "BatchNorm's statistics after 3 steps, cpu(1)",
    *("logits, 2 devices together", "gradients, 2 devices together"),
    "BatchNorm's statistics after 3 steps, 2 devices together",
    *("weights", "--amp", "packing", "records", "batches", "training", "decoding"),
    *("checkpoint", "disk, saving", "disk, reading", "disk, space"),
)


@pytest.fixture
def here(monkeypatch):
    """Run the checks within this process, where faults can be put in; return which.

    What is killed and resumed is a process all the same.
    """
    ran = []

    def run(name, title, subject, doing, found, silence_s=0.0, **options):
        ran.append(name)
        told = Told()
        module = importlib.import_module(f"xenon_mx.diagnosis.{name}")
        try:
            return module.check(subject, told, **options) or {}
        except ConfigError:
            raise
        except XenonError as error:
            told.found(doctor.Finding(title, "", str(error)))
            return None
        finally:
            for finding in told.findings:
                found(finding)

    monkeypatch.setattr(isolated, "run", run)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    return ran


def checks(*names):
    """Return some of the checks."""
    return {name: doctor._CHECKS[name] for name in names}


def wrong(report):
    """Return the names of the lines that are wrong."""
    return [line.split(":")[0] for line in report.lines if "WRONG" in line]


@pytest.mark.slow
def test_two_cpu_contexts_are_well(here, tmp_path):
    out, written = tmp_path / "doctor.txt", []
    report = doctor.doctor(DoctorConfig(out=out, **SMALL), write=written.append)
    assert report.is_well
    first, *lines, last = report.lines
    assert first == f"xenon-doctor --model {NET} --size 32 --batch-size 8"
    assert tuple(line.split(":")[0] for line in lines) == NAMES
    assert all(line.endswith(": ok") for line in lines[NAMES.index("device cpu(0)") :])
    assert re.fullmatch(r"all ok; \d+ s", last)
    resumed = (
        "checkpoint: 4 MB written, killed after its first epoch, resumed: the same"
    )
    assert [line for line in lines if line.startswith(resumed)]
    assert written == report.lines
    *text, record = out.read_text().splitlines()
    assert text == report.lines
    assert record.startswith("<!-- xenon-doctor ")
    assert [path.name for path in tmp_path.iterdir()] == ["doctor.txt"]


def test_no_path_and_no_name_is_told(here, tmp_path, monkeypatch):
    """The user's name is that of the folder, too, as in a home folder."""
    monkeypatch.setenv("LOGNAME", "schmidt")
    home = tmp_path / "schmidt"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    def full(root, *_):
        raise OSError(errno.ENOSPC, "No space left on device", f"{root}/x.png")

    monkeypatch.setattr(drawn_images, "write", full)
    monkeypatch.setattr(doctor, "_CHECKS", checks("libraries", "packing"))
    report = doctor.doctor(DoctorConfig(out=home / "d.txt", **SMALL))
    assert not report.is_well
    assert not [x for x in report.lines if "schmidt" in x or str(tmp_path) in x]
    assert (
        "packing: WRONG: FOLDER/images-of-packed/x.png: No space left on device"
        in report.lines
    )


def test_a_full_disk_leaves_what_needs_no_disk(here, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "image1.png")

    monkeypatch.setattr(drawn_images, "write", full)
    monkeypatch.setattr(os, "fsync", lambda _: full())
    monkeypatch.setattr(doctor.outputs.Outputs, "write", lambda *_: None)
    report = doctor.doctor(DoctorConfig(out=tmp_path / "d.txt", **SMALL))
    assert wrong(report) == ["packing", "disk"]
    for name in ("records", "training", "decoding", "checkpoint"):
        needed = "the records, which could not be packed"
        assert f"{name}: not checked: it needs {needed}" in report.lines
    assert here == ["libraries", "agreement", "mixed", "packing", "disk_speed"]
    assert report.lines[-1].startswith("2 lines are wrong, 4 not checked; ")
    assert not report.is_well


def test_a_second_device_that_computes_something_else_fails(
    here, tmp_path, monkeypatch
):
    compute = first_steps.compute

    def damage(model, weights, pixels, labels, ctxs, reference=False, **options):
        is_second = str(ctxs[-1]) == "cpu(1)" and not reference
        seen = 255 - pixels if is_second else pixels
        return compute(model, weights, seen, labels, ctxs, reference=reference)

    monkeypatch.setattr(first_steps, "compute", damage)
    monkeypatch.setattr(doctor, "_CHECKS", checks("libraries", "agreement"))
    report = doctor.doctor(DoctorConfig(out=tmp_path / "d.txt", **SMALL))
    assert wrong(report)[:2] == ["logits, cpu(1)", "gradients, cpu(1)"]
    assert not [name for name in wrong(report) if name.endswith("cpu(0)")]
    assert not report.is_well


def test_without_mxnet_only_facts_are_told(here, tmp_path, monkeypatch):
    from xenon_mx.diagnosis import libraries

    def refuse():
        raise XenonError("MXNet is not installed: pip install it")

    monkeypatch.setattr(libraries.mxnet_build, "installed", refuse)
    report = doctor.doctor(DoctorConfig(out=tmp_path / "d.txt", **SMALL))
    assert here == ["libraries"]
    assert "MXNet: WRONG: MXNet is not installed: pip install it" in report.lines
    assert wrong(report) == ["MXNet"]
    assert report.lines[-1].startswith("1 line is wrong, 8 not checked; ")
    assert not report.is_well


# The file


def report_of(here, monkeypatch, out, **settings):
    """Run one check with other settings."""
    monkeypatch.setattr(doctor, "_CHECKS", checks("libraries"))
    return doctor.doctor(DoctorConfig(out=out, **{**SMALL, **settings}))


def test_the_same_again_replaces_the_report(here, tmp_path, monkeypatch):
    out = tmp_path / "doctor.txt"
    assert report_of(here, monkeypatch, out, ctx="cpu(0)").is_well
    assert report_of(here, monkeypatch, out, ctx="cpu:0").is_well


@pytest.mark.parametrize(
    "other",
    [{"model": "mobilenet0.5"}, {"size": 64}, {"batch_size": 2}, {"ctx": "cpu(0)"}],
)
def test_the_report_of_something_else_is_kept(here, tmp_path, monkeypatch, other):
    out = tmp_path / "doctor.txt"
    report_of(here, monkeypatch, out)
    before = out.read_bytes()
    with pytest.raises(XenonError, match="other inputs .* use --overwrite"):
        report_of(here, monkeypatch, out, **other)
    assert out.read_bytes() == before
    assert report_of(here, monkeypatch, out, **other, overwrite=True).is_well


def test_the_file_is_there_while_a_check_runs(here, tmp_path, monkeypatch):
    """A computer that freezes in a check leaves what is known, and which it was."""
    out, seen = tmp_path / "doctor.txt", []

    def run(name, title, *_, **options):
        seen.append(out.read_text().splitlines())
        return {"devices": ["cpu(0)"]}

    monkeypatch.setattr(isolated, "run", run)
    monkeypatch.setattr(doctor, "_CHECKS", checks("libraries", "mixed"))
    written = []
    doctor.doctor(DoctorConfig(out=out, **SMALL), write=written.append)
    assert [lines[-2] for lines in seen] == [
        "not finished; in progress: MXNet",
        "not finished; in progress: --amp",
    ]
    assert all(lines[:-2] == written[:-1] for lines in seen)
    assert "not finished" not in out.read_text()


def test_two_in_one_folder_are_one_error(here, tmp_path):
    folder = files.Folder(tmp_path)
    try:
        assert folder.lock()
        with pytest.raises(XenonError, match="another process is writing into it"):
            doctor.doctor(DoctorConfig(out=tmp_path / "doctor.txt", **SMALL))
    finally:
        folder.close()
    assert here == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_doctor_left_is_removed(tmp_path):
    """And its process ends with it, and that which the check has started."""
    file = tmp_path / "pids"
    (tmp_path / "out").mkdir()
    caller = run_until_written(HANGING.format(file=str(file)), file, tmp_path / "out")
    caller.kill()
    caller.wait()
    for pid in file.read_text().split():
        wait_for_end(int(pid))
    assert [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert "in progress: MXNet" in (tmp_path / "out" / "doctor.txt").read_text()
    status, out, err = run(tmp_path / "out", code=NO_CHECKS)
    assert status == 0, err
    assert "all ok" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["doctor.txt"]


def test_a_signal_in_the_last_second_leaves_the_report(tmp_path):
    status, out, _ = run(tmp_path, code=KILLED_WHILE_REMOVING)
    assert status == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["doctor.txt"]
    lines = (tmp_path / "doctor.txt").read_text().splitlines()
    assert lines[:-1] == out.splitlines()
    assert lines[-2].startswith("all ok; ")


# The command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "densenet-169"], "did you mean densenet169?"),
        (["--ctx", "tpu"], "write cpu(), gpu(0)"),
        (["--size", "8"], "must be at least 32"),
        (["-o", "doctor.png"], ".txt"),
        (
            ["--batch-size", "1", "--ctx", "cpu(0),cpu(1)"],
            "--batch-size: 1 image cannot be split between 2 devices",
        ),
        (["x"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_status_2(here, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.COMMANDS["doctor"], words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Python: " not in result.output  # nothing is told before
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_is_too_small_for_the_devices_found_is_refused(
    here, tmp_path, monkeypatch
):
    """Without --ctx, the devices are known once MXNet has been asked."""
    from xenon_mx.diagnosis import libraries

    monkeypatch.setattr(libraries, "_wanted", lambda *_: ["cpu(0)", "cpu(1)"])
    config = DoctorConfig(model=NET, size=32, batch_size=1, out=tmp_path / "d.txt")
    with pytest.raises(ConfigError, match="1 image cannot be split between 2 devices"):
        doctor.doctor(config)
    assert here == ["libraries"]
    assert list(tmp_path.iterdir()) == []


def test_the_status_is_1_if_a_line_is_wrong(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_CHECKS", checks("libraries"))
    (tmp_path / "other").mkdir()
    words = ["--model", NET, "--ctx"]
    result = CliRunner().invoke(cli.COMMANDS["doctor"], [*words, "gpu(0)"])
    assert result.exit_code == 1
    assert "device gpu(0): WRONG: " in result.output
    monkeypatch.chdir(tmp_path / "other")
    result = CliRunner().invoke(cli.COMMANDS["doctor"], [*words, "cpu"])
    assert result.exit_code == 0
    assert "all ok" in (tmp_path / "other" / "doctor.txt").read_text()


def test_a_file_of_somebody_else_is_kept(here, tmp_path):
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    with pytest.raises(XenonError, match="notes.txt"):
        xenon.doctor(out=out, progress=False, **SMALL)
    assert here == []
    assert out.read_text() == "mine"


# The processes


def run(folder, *words, code=COMMAND, **variables):
    """Run the command as a process; return its status, output and errors."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--ctx", "cpu(0),cpu(1)"]])
def test_the_default_net_is_well_on_this_computer(tmp_path, words):
    status, out, err = run(tmp_path, *words)
    assert status == 0, out + err
    assert out.splitlines() == (tmp_path / "doctor.txt").read_text().splitlines()[:-1]
    assert "WRONG" not in out
    assert "densenet169 --size 320" in out


# Taken by every process of the command: the second step on a device aborts.
CRASHING = """
import os, sys
sys.path.insert(0, {root!r})
if "agreement" in " ".join(sys.orig_argv if hasattr(sys, "orig_argv") else []):
    from xenon_mx.diagnosis import first_steps
    compute = first_steps.compute
    def crash(*args, **options):
        if options.get("reference"):
            return compute(*args, **options)
        os.write(2, b"terminate called after throwing\\n")
        os.abort()
    first_steps.compute = crash
"""


@pytest.mark.slow
def test_a_device_that_crashes_the_process_is_a_line(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CRASHING.format(root=str(ROOT)))
    words = ["--model", NET, "--size", "32"]
    status, out, _ = run(tmp_path, *words, PYTHONPATH=f"{site}:{ROOT}")
    assert status == 1
    (line,) = [line for line in out.splitlines() if "WRONG" in line]
    assert line == (
        "logits, gradients, BatchNorm's statistics: while 3 steps on cpu(0): WRONG: "
        "the process ended with SIGABRT: terminate called after throwing; too little "
        "memory is the usual reason: use a smaller --batch-size or --size; if that "
        "does not help, please report it with all of this file"
    )


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_found(tmp_path):
    """A file system of 1 MB in memory, which is too small for the images."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    mount = "mount -t tmpfs -o size=1m none small"
    (tmp_path / "small").mkdir()
    allowed = ["unshare", "-Urm", "sh", "-c", mount]
    if subprocess.run(allowed, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("no file systems may be mounted here")
    script = f'{mount} && cd small && exec "$@"'
    code = "from xenon_mx import main; main.doctor()"
    words = [sys.executable, "-c", code, "--model", NET, "--size", "64"]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert re.search("packing: WRONG: .*(No space left| are needed)", done.stdout)
    assert re.search("disk: WRONG: .*No space left on device", done.stdout)
