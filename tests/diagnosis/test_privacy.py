"""What must not stand in a report: names of users and computers, and paths."""

from __future__ import annotations

import getpass
import os
import socket

import pytest

from xenon_mx.diagnosis import privacy


@pytest.fixture
def hider(tmp_path, monkeypatch):
    """A function that makes a hider for a user and a computer."""

    def make(user="alice-b", host="ward-3.hospital", folder=tmp_path / "work"):
        monkeypatch.setenv("HOME", f"/home/{user}")
        monkeypatch.setattr(getpass, "getuser", lambda: user)
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        return privacy.Hider(folder)

    return make


def test_no_user_computer_or_home_is_told(hider, tmp_path):
    folder = tmp_path / "patient Doe" / "work"
    folder.mkdir(parents=True)
    paths = f"{folder}/a.rec {folder.parent}/b /home/alice-b/c /home/alice-b"
    assert (
        hider(folder=folder).message(f"{paths} of alice-b on ward-3.hospital, ward-3")
        == "FOLDER/a.rec OUT/b c ~ of USER on HOST, HOST"
    )


def test_a_relative_folder_is_hidden_in_full(hider, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    hide = hider(folder=tmp_path / "work").paths
    assert hide(os.path.join(os.getcwd(), "work", "x")) == "FOLDER/x"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/opt/klinikum-mueller/venv/lib/libmxnet.so: no", "libmxnet.so: no"),
        ("File '/opt/klinikum/a.py', line 3", "File 'a.py', line 3"),
        (
            "LD_LIBRARY_PATH=/opt/klinikum/lib:/srv/mueller/lib",
            "LD_LIBRARY_PATH=lib:lib",
        ),
        ("(/opt/klinikum/lib/x.so+0x52f)", "(x.so+0x52f)"),
        ("~/klinikum/x", "x"),
        ("/opt/klinikum/lib/ is full", "lib/ is full"),
    ],
)
def test_of_a_path_the_last_part_is_told(hider, line, told):
    assert hider().paths(line) == told


@pytest.mark.parametrize(
    "line",
    [
        "538 img/s, 1.7 GB/s read, 1/2, a / b, and/or, FOLDER/a.rec, OUT/b",
        "see https://github.com/apache/mxnet and http://x.org/y",
        "Debian GNU/Linux 12",
        "src/operator/x.cc:12",
    ],
)
def test_what_is_no_absolute_path_stays(hider, line):
    assert hider().paths(line) == line


@pytest.mark.parametrize("user", ["train", "eva", "li"])
def test_a_name_is_a_whole_word(hider, user):
    hide = hider(user=user, host="linux").message
    assert hide(f"of {user}, training, evaluation") == "of USER, training, evaluation"
    assert hide(f"{user}@linux: xenon-train") == "USER@HOST: xenon-train"
    assert hide(f"/home/{user}/lib/x.so") == "x.so"


def test_names_that_every_computer_has_stay(hider):
    assert hider("root", "localhost").message("root@localhost") == "root@localhost"


def test_a_name_may_be_a_word_of_the_lines_of_xenon(hider):
    line = "training: 20 steps; records on GNU/Linux"
    assert hider(user="training", host="linux").paths(line) == line
