"""The lines of the report, and what must not stand in them."""

from __future__ import annotations

import getpass
import os
import socket

import pytest

from xenon_mx.diagnosis import privacy
from xenon_mx.diagnosis.finding import Finding, compared, fact


def test_a_line_ends_in_ok_or_in_what_is_wrong():
    assert fact("memory", "8 GB").line == "memory: 8 GB"
    assert Finding("disk", "fast").line == "disk: fast: ok"
    assert Finding("disk", "slow", "buy one").line == "disk: slow: WRONG: buy one"
    assert Finding("MXNet", "", "it is\nnot").line == r"MXNet: WRONG: it is\nnot"


@pytest.mark.parametrize(
    ("difference", "is_ok"),
    [(0.0, True), (0.1, True), (0.11, False), (float("inf"), False)],
)
def test_a_difference_above_its_limit_is_wrong(difference, is_ok):
    finding = compared("logits", difference, 0.1, "replace it")
    assert finding.wrong == ("" if is_ok else "replace it")
    assert "(limit 1.0e-01)" in finding.seen


def test_nan_is_wrong():
    assert compared("logits", float("nan"), 0.1, "replace it").wrong


def test_no_user_computer_or_home_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice-b")
    monkeypatch.setattr(getpass, "getuser", lambda: "alice-b")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward-3.hospital")
    folder = tmp_path / "patient Doe" / "work"
    folder.mkdir(parents=True)
    hide = privacy.hider(folder)
    paths = f"{folder}/a.rec {folder.parent}/b /home/alice-b/c"
    assert (
        hide(f"{paths} of alice-b on ward-3.hospital")
        == "FOLDER/a.rec OUT/b ~/c of USER on HOST"
    )


def test_a_relative_folder_is_hidden_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    hide = privacy.hider(tmp_path / "work")
    assert hide(os.path.join(os.getcwd(), "work", "x")) == "FOLDER/x"
