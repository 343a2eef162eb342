"""pack.json as a typed object: the same bytes and fingerprint as ever, or refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from support import paths

from xenon_mx.data import pack_meta
from xenon_mx.data.pack_meta import PackMeta
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files

WRITTEN = paths.ROOT / "tests/fixtures/0.1.0/packed/pack.json"  # by xenon 0.1.0


def test_pack_json_is_written_byte_for_byte_as_it_was_read() -> None:
    meta = pack_meta.read(WRITTEN)
    assert files.json_bytes(meta.to_json()) == WRITTEN.read_bytes()


def test_fingerprint_is_the_sha256_of_what_the_first_version_wrote() -> None:
    later = dataclasses.replace(pack_meta.read(WRITTEN), xenon="9.9.9")
    assert later.fingerprint == hashlib.sha256(WRITTEN.read_bytes()).hexdigest()


def test_how_images_were_found_is_read_back_and_is_not_in_the_fingerprint(
    tmp_path: Path,
) -> None:
    written = pack_meta.read(WRITTEN)
    assert written.images_from is None
    rules = {"train": "source", "valid": "working directory"}
    later = dataclasses.replace(written, images_from=rules)
    files.write_json(tmp_path / "pack.json", later.to_json())
    again = pack_meta.read(tmp_path / "pack.json")
    assert again == later
    assert again.fingerprint == written.fingerprint


def test_values_are_those_of_the_json() -> None:
    meta = pack_meta.read(WRITTEN)
    assert (meta.size, meta.fit, meta.encoding, meta.quality) == (
        32,
        "stretch",
        "jpg",
        95,
    )
    assert meta.study_types == ("XR_ELBOW", "XR_WRIST")
    assert meta.weights["XR_WRIST"].abnormal == 0.5
    assert meta.splits["holdout"].counts["XR_ELBOW"].images == 3
    assert meta.splits["train"].files["train.idx"].bytes == 114


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("skipped", "a.png"),
        ("skipped", [{"split": "train", "path": "a.png"}]),
        ("study_types", ["XR_ELBOW"]),
        ("study_types", [1, 2]),
        ("images_from", "source"),
        ("images_from", {"train": 1}),
        ("weights", {"XR_ELBOW": [0.5]}),
        ("weights", {"XR_ELBOW": [1, 0]}),
    ],
)
def test_a_value_of_another_form_is_refused(
    tmp_path: Path, key: str, value: Any
) -> None:
    file = tmp_path / "pack.json"
    files.write_json(file, {**files.read_json(WRITTEN), key: value})
    with pytest.raises(XenonError, match=r"pack\.json: damaged: .*pack again"):
        pack_meta.read(file)


def test_meta_cannot_be_changed() -> None:
    meta: PackMeta = pack_meta.read(WRITTEN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        meta.size = 64  # type: ignore[misc]
