"""Pseudonyms: a keyed hash of identifiers, and a key that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from support.archives import PEOPLE

from xenon_mx.data import mura, pseudonyms
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.errors import XenonError

KEY = bytes(range(32))


def test_a_pseudonym_is_80_bits_of_the_hmac() -> None:
    """RFC 2104 by the standard library; digits from the lowest, by Crockford's list."""
    message = rb'["xenon pseudonym 1", "patient", "\u60a3-1", "H"]'
    number = int(hmac.new(KEY, message, hashlib.sha256).hexdigest(), 16) % 2**80
    digits = ""
    for _ in range(16):
        number, digit = divmod(number, 32)
        digits += "0123456789abcdefghjkmnpqrstvwxyz"[digit]
    assert Naming(KEY).patient("患-1", "H") == "p" + digits


def test_kinds_fields_and_keys_are_separate() -> None:
    names = [
        name
        for naming in (Naming(KEY), Naming(KEY[::-1]))
        for name in (
            naming.patient("1.2", ""),
            naming.patient("1.2", "X"),
            naming.patient("X", "1.2"),
            naming.patient_of_study("1.2"),
            naming.study("1.2", ""),
            naming.study("1.2", "X"),
            naming.study("1.2", "X", "1"),
            naming.image("1.2"),
            naming.file("1.2"),
        )
    ]
    assert len({name[1:] for name in names}) == len(names)
    assert all(len(name) == 17 and name.isalnum() for name in names)
    assert {name[0] for name in names} == set("psif")


def test_many_pseudonyms_are_all_different() -> None:
    naming = Naming(KEY)
    assert len({naming.image(f"1.2.{n}") for n in range(20_000)}) == 20_000


def test_one_text_in_two_normal_forms_is_one_patient() -> None:
    naming = Naming(KEY)
    assert naming.patient("M\u00fc", "") == naming.patient("Mu\u0308", "")


def test_nothing_shows_the_key(tmp_path: Path) -> None:
    assert repr(Naming(KEY)) == "<Naming by pseudonyms>"
    assert repr(Naming(None)) == "<Naming by identifiers>"


TEXTS = [
    *(person[1] for person in PEOPLE.values()),
    *("PID-1", "a/b", "a_b", "a%2Fb", "..", ".", ".x", "", "XR_HAND", "x_positive"),
    *("x_negative", "x@y", "x y", "x\ty\n", "a\\b", "\udcff", "XR_1_negative"),
]


def test_identifiers_that_are_kept_are_safe_in_paths_and_different() -> None:
    naming = Naming(None)
    assert naming.keeps_identifiers
    assert naming.patient("PID_1", "") == "PID_1"
    assert naming.patient("患者-1", "H/1") == "患者-1@H%2F1"
    pairs = [(a, b) for a, b in itertools.product(TEXTS, TEXTS) if a]
    names = [naming.patient(*pair) for pair in pairs]
    names += [naming.patient_of_study(text) for text in TEXTS]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.encode()
        assert not name.startswith(".")
        assert not set(name) & set("/\\\t\n \0")
        path = f"XR_WRIST/{name}/{naming.study(name, 'XR_WRIST')}/{name}"
        image = mura.parse(path, Path("x"))
        assert (image.study_type, image.patient) == ("XR_WRIST", name)
        assert image.label is None
        assert mura.study_tail(f"any/{image.study}") == image.study.rstrip("/")


def test_the_key_is_made_once_for_its_owner_alone_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "new" / "folder" / "key"
    umask = os.umask(0o000)
    try:
        first = pseudonyms.naming(key_file=file)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"made the key of the pseudonyms, {file}: keep" in caplog.text
    assert file.read_text().strip() not in caplog.text
    assert len(file.read_bytes()) == 65
    assert os.listdir(file.parent) == ["key"]

    second = pseudonyms.naming(key_file=file)
    assert len(caplog.records) == 1
    assert second.image("1.2") == first.image("1.2")
    assert Naming(bytes.fromhex(file.read_text())).image("1.2") == first.image("1.2")


def test_without_pseudonyms_no_key_is_made(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert pseudonyms.naming(keep_identifiers=True, key_file=file).keeps_identifiers
    assert not file.exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XENON_KEY": "my.key", "HOME": "/h"}, "my.key"),
        ({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}, "/c/xenon/pseudonym.key"),
        ({"XDG_CONFIG_HOME": "c", "HOME": "/h"}, "/h/.config/xenon/pseudonym.key"),
        ({"HOME": "/h", "XENON_KEY": ""}, "/h/.config/xenon/pseudonym.key"),
    ],
)
def test_the_key_has_its_place(environment: dict, expected: str) -> None:
    assert pseudonyms.default_key_file(environment) == Path(expected)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    pseudonyms.naming(key_file=file)
    file.chmod(mode)
    with pytest.raises(XenonError, match=f"mode {mode:04o}.*chmod 600 {file}$"):
        pseudonyms.naming(key_file=file)


@pytest.mark.parametrize(
    "content", [b"", b"abcd\n", b"secret word" * 9, b"0" * 63, b"0" * 65]
)
def test_what_is_no_key_is_refused_and_not_quoted(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(XenonError, match="expected at least 64 hex") as caught:
        pseudonyms.naming(key_file=file)
    assert "secret" not in str(caught.value)
    assert file.read_bytes() == content


def test_a_longer_key_is_used_whole(tmp_path: Path) -> None:
    names = set()
    for end in ("00", "01"):
        file = tmp_path / end
        file.touch(0o600)
        file.write_text("ab" * 40 + end)
        names.add(pseudonyms.naming(key_file=file).image("1"))
    assert len(names) == 2


def test_a_key_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(XenonError, match="Not a directory; name another.*XENON_KEY"):
        pseudonyms.naming(key_file=tmp_path / "file" / "key")
    with pytest.raises(XenonError, match="no regular file"):
        pseudonyms.naming(key_file=Path("/dev/null"))


def _image_name(file: Path) -> str:
    return pseudonyms.naming(key_file=file).image("1.2")


def test_processes_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        names = pool.map(_image_name, [tmp_path / "key"] * 64, chunksize=1)
    assert len(set(names)) == 1
    assert os.listdir(tmp_path) == ["key"]
