"""The packed folder: written whole or not at all, and verified before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from support import paths

from xenon_mx.data import pack_meta, pack_writer, packed_folder, recordio
from xenon_mx.data.mura import ClassWeights
from xenon_mx.data.pack_meta import PackMeta
from xenon_mx.data.packed_folder import RecordLabels
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files

MAGIC = bytes.fromhex("0a23d7ce")
TYPES = ["XR_HAND", "XR_WRIST"]
FILES = [f"{split}.{kind}" for split in ("train", "valid") for kind in pack_meta.KINDS]

# Any bytes serve as images: a packed folder is verified without decoding them.
TRAIN = [
    (
        b"first",
        RecordLabels(1, 0, 0, "MURA-v1.1/train/XR_HAND/p1/study1_positive/image1.png"),
    ),
    (MAGIC * 3, RecordLabels(0, 1, 1, "with space/and, comma.png")),
    (b"12345678", RecordLabels(1, 1, 2, "mit Ümlaut/画像.png")),
]
VALID = [(b"other", RecordLabels(0, 0, 0, "a.png"))]


def fill(
    out: pack_writer.PackTransaction, train: Any = TRAIN, valid: Any = VALID
) -> PackMeta:
    """Write the splits' files; return the pack.json that describes them."""
    splits = {}
    for name, content in (("train", train), ("valid", valid)):
        with pack_writer.SplitWriter(out.folder, name) as writer:
            for image, row in content:
                writer.add(image, row)
            splits[name] = writer.summary(counts={})
    return PackMeta(
        xenon="0.0.0",
        size=32,
        fit="stretch",
        encoding="png",
        quality=None,
        seed=0,
        holdout=0.0,
        source_sha256="0" * 64,
        study_types=tuple(TYPES),
        weights={"XR_HAND": ClassWeights(0.5, 0.5)},
        pooled_weights=ClassWeights(0.5, 0.5),
        splits=splits,
        skipped=(),
    )


def pack(
    folder: Path, overwrite: bool = False, **content: Any
) -> packed_folder.PackedFolder:
    with pack_writer.PackTransaction(folder, overwrite) as out:
        return out.commit(fill(out, **content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pack(tmp_path / "packed").folder


def edit_json(folder: Path, change: Callable[[dict], Any]) -> None:
    """Apply a change to pack.json."""
    meta = json.loads((folder / "pack.json").read_text())
    change(meta)
    del meta["checksum"]
    files.write_json(folder / "pack.json", meta)


def edit(folder: Path, name: str, data: bytes) -> None:
    """Change a file and its size in pack.json: only later checks can find it."""
    (folder / name).write_bytes(data)

    def change(meta: dict) -> None:
        meta["splits"][Path(name).stem]["files"][name]["bytes"] = len(data)

    edit_json(folder, change)


def refused(folder: Path, match: str, split: str = "train") -> None:
    with pytest.raises(XenonError, match=match) as caught:
        packed_folder.open_packed(folder).split(split)
    assert "\n" not in str(caught.value)


def snapshot(folder: Path) -> dict[str, bytes]:
    paths = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in paths}


# --- the files ---


def test_packed_folder_holds_these_files_and_no_others(folder: Path) -> None:
    assert sorted(os.listdir(folder)) == sorted(["pack.json", *FILES])


def test_lst_has_mxnets_format_with_one_column_per_label(folder: Path) -> None:
    assert (folder / "train.lst").read_text(encoding="utf-8") == (
        "0\t1\t0\t0\tMURA-v1.1/train/XR_HAND/p1/study1_positive/image1.png\n"
        "1\t0\t1\t1\twith space/and, comma.png\n"
        "2\t1\t1\t2\tmit Ümlaut/画像.png\n"
    )


def test_idx_contains_the_offset_of_each_record(folder: Path) -> None:
    # 8 bytes of magic and length, 36 of header and labels, the image padded to 4; the
    # second image is three magics, which split the record into parts.
    assert (folder / "train.idx").read_text() == "0\t0\n1\t52\n2\t120\n"
    assert (folder / "train.rec").stat().st_size == 120 + 8 + 36 + 8


def test_rec_is_read_by_mxnet_through_its_idx(folder: Path) -> None:
    from xenon_mx.runtime.mxnet import mx

    reader = mx.recordio.MXIndexedRecordIO(
        str(folder / "train.idx"), str(folder / "train.rec"), "r"
    )
    assert reader.keys == [0, 1, 2]
    for number, (image, row) in reversed(list(enumerate(TRAIN))):
        header, data = mx.recordio.unpack(reader.read_idx(number))
        assert (header.id, header.label.tolist()) == (number, list(row[:3]))
        assert data == image
    reader.close()


def test_split_returns_rows_and_images(folder: Path) -> None:
    split = packed_folder.open_packed(folder).split("train")

    assert split.rows() == [row for _, row in TRAIN]
    assert [record.image for record in split.images()] == [image for image, _ in TRAIN]
    assert (split.records, split.size, split.study_types) == (3, 32, tuple(TYPES))


def test_label_numbers_are_float32_in_the_record(folder: Path) -> None:
    with open(folder / "train.rec", "rb") as rec:
        labels = [record.labels for record in recordio.read(rec)]
    assert all(each.dtype == np.float32 for each in labels)
    assert np.stack(labels).tolist() == [list(row[:3]) for _, row in TRAIN]


def test_pack_json_holds_size_and_sha256_of_every_file(folder: Path) -> None:
    meta = json.loads((folder / "pack.json").read_text())

    recorded = {**meta["splits"]["train"]["files"], **meta["splits"]["valid"]["files"]}
    assert recorded == {
        name: {
            "bytes": (folder / name).stat().st_size,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for name in FILES
    }
    assert meta["format"] == 1
    assert [meta["splits"][s]["records"] for s in ("train", "valid")] == [3, 1]


def test_fingerprint_changes_with_an_image(tmp_path: Path) -> None:
    packed, other = pack(tmp_path / "a"), pack(tmp_path / "b", valid=TRAIN)
    assert other.fingerprint != packed.fingerprint
    assert pack(tmp_path / "c").fingerprint == packed.fingerprint


def test_fingerprint_covers_neither_the_version_nor_what_later_ones_add(
    folder: Path,
) -> None:
    before = packed_folder.open_packed(folder).fingerprint
    content = files.read_json(folder / "pack.json")
    later = {**content, "rule": "source", "xenon": "9.9"}
    files.write_json(folder / "pack.json", later)
    assert packed_folder.open_packed(folder).fingerprint == before
    files.write_json(folder / "pack.json", {**later, "fit": "pad"})
    assert packed_folder.open_packed(folder).fingerprint != before


def test_open_rec_returns_its_split(folder: Path) -> None:
    assert packed_folder.open_rec(folder / "valid.rec")[1].rows() == [
        row for _, row in VALID
    ]


def test_open_rec_without_pack_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XenonError, match="no such file"):
        packed_folder.open_rec(tmp_path / "train.rec")
    (tmp_path / "train.rec").touch()
    with pytest.raises(XenonError, match=r"train\.rec: .* no pack\.json beside it"):
        packed_folder.open_rec(tmp_path / "train.rec")


def test_open_rec_of_another_name_is_refused(folder: Path) -> None:
    shutil.copy(folder / "train.rec", folder / "mine.rec")
    wanted = r"mine\.rec: .* holds no mine split, only train, valid"
    with pytest.raises(XenonError, match=wanted):
        packed_folder.open_rec(folder / "mine.rec")


def test_what_is_refused_in_the_working_directory_has_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file, its own name; of the working directory, where it is."""
    shutil.copy(folder / "train.rec", folder / "mine.rec")
    (folder / "elsewhere").mkdir()
    shutil.copy(folder / "train.rec", folder / "elsewhere" / "train.rec")
    monkeypatch.chdir(folder)
    with pytest.raises(XenonError, match=r"^mine\.rec: "):
        packed_folder.open_rec(Path("mine.rec"))
    with pytest.raises(XenonError, match=f"^{folder}: holds no holdout split"):
        packed_folder.open_packed(Path()).split("holdout")
    monkeypatch.chdir("elsewhere")
    with pytest.raises(XenonError, match=r"^train\.rec: "):
        packed_folder.open_rec(Path("train.rec"))
    with pytest.raises(XenonError, match=f"^{folder}/elsewhere: not a packed folder"):
        packed_folder.open_packed(Path())


def test_preprocessing_is_size_and_fit(folder: Path) -> None:
    assert packed_folder.open_packed(folder).preprocessing == {
        "size": 32,
        "fit": "stretch",
    }


# --- pack.json refused ---


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"1", b'"format"', b"{}", b"\xff\xfe{}", b"\0" * 9],
)
def test_open_packed_damaged_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "pack.json").write_bytes(content)
    with pytest.raises(XenonError, match=r"pack\.json: damaged: .*pack again"):
        packed_folder.open_packed(folder)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_open_packed_other_format_is_refused_whatever_it_holds(
    folder: Path, version: int
) -> None:
    files.write_json(folder / "pack.json", {"format": version})
    with pytest.raises(XenonError, match=f"format {version}, but this xenon reads 1"):
        packed_folder.open_packed(folder)


NEEDED = [
    "size",
    "fit",
    "study_types",
    "weights",
    "pooled_weights",
    "splits",
    "splits/train/records",
    "splits/train/counts",
    "splits/train/files",
    "splits/train/files/train.idx",
    "splits/train/files/train.idx/bytes",
    "splits/train/files/train.idx/sha256",
]


def parent(meta: dict, path: str) -> tuple[dict, str]:
    """Return the object in pack.json that has a path's last key, and the key."""
    *above, last = path.split("/")
    for key in above:
        meta = meta[key]
    return meta, last


@pytest.mark.parametrize("path", NEEDED)
def test_open_packed_missing_value_is_refused(folder: Path, path: str) -> None:
    def change(meta: dict) -> None:
        holder, key = parent(meta, path)
        del holder[key]

    edit_json(folder, change)
    with pytest.raises(XenonError, match=r"pack\.json: damaged"):
        packed_folder.open_packed(folder)


@pytest.mark.parametrize("value", [None, 1.5, True, []])
@pytest.mark.parametrize("path", [*NEEDED, "weights/XR_HAND", "splits/train"])
def test_open_packed_value_of_another_kind_is_refused(
    folder: Path, path: str, value: Any
) -> None:
    def change(meta: dict) -> None:
        holder, key = parent(meta, path)
        holder[key] = value

    edit_json(folder, change)
    with pytest.raises(XenonError, match=r"pack\.json: damaged"):
        packed_folder.open_packed(folder)


@pytest.mark.parametrize("name", ["../train.rec", "/etc/passwd", "valid.rec"])
def test_open_packed_file_of_another_name_is_refused(folder: Path, name: str) -> None:
    def change(meta: dict) -> None:
        files = meta["splits"]["train"]["files"]
        files[name] = files.pop("train.rec")

    edit_json(folder, change)
    with pytest.raises(XenonError, match="the files of train are not rec, idx, lst"):
        packed_folder.open_packed(folder)


def test_open_packed_no_packed_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XenonError, match="not a packed folder: it has no pack.json"):
        packed_folder.open_packed(tmp_path)
    with pytest.raises(XenonError, match="none: no such folder; make one with xenon-p"):
        packed_folder.open_packed(tmp_path / "none")


def test_split_that_is_not_there_is_refused(folder: Path) -> None:
    refused(folder, "holds no holdout split, only train, valid", split="holdout")


# --- damage refused ---


@pytest.mark.parametrize("kind", pack_meta.KINDS)
def test_split_missing_file_is_refused(folder: Path, kind: str) -> None:
    (folder / f"train.{kind}").unlink()
    refused(folder, rf"train\.{kind}: the file is missing")


@pytest.mark.parametrize("kind", pack_meta.KINDS)
@pytest.mark.parametrize("change", [-1, 1])
def test_split_file_of_another_size_is_refused(
    folder: Path, kind: str, change: int
) -> None:
    file = folder / f"train.{kind}"
    size = file.stat().st_size
    os.truncate(file, size + change)
    refused(
        folder, rf"train\.{kind}: {size + change} bytes, but pack\.json says {size}"
    )


def test_split_of_another_pack_is_refused(folder: Path, tmp_path: Path) -> None:
    other = pack(tmp_path / "other", train=[*TRAIN, *VALID]).folder
    shutil.copy(other / "train.rec", folder / "train.rec")
    refused(folder, r"train\.rec: \d+ bytes, but pack\.json says")


@pytest.mark.parametrize("cut", [1, 4, 8, 51, 52, 53, 120, 171])
def test_split_cut_rec_is_refused(folder: Path, cut: int) -> None:
    edit(folder, "train.rec", (folder / "train.rec").read_bytes()[:-cut])
    refused(folder, r"train\.rec: ")


@pytest.mark.parametrize("start", [0, 52, 120])
@pytest.mark.parametrize("at", [0, 3, 4, 6, 7, 8, 16, 32, 36, 40])
def test_split_changed_head_label_or_number_is_refused(
    folder: Path, start: int, at: int
) -> None:
    data = bytearray((folder / "train.rec").read_bytes())
    data[start + at] ^= 0x41
    (folder / "train.rec").write_bytes(bytes(data))
    refused(folder, r"train\.rec")


@pytest.mark.parametrize(
    "idx",
    [
        pytest.param("", id="empty"),
        pytest.param("0\t0\n1\t52\n", id="a row short"),
        pytest.param("0\t0\n1\t52\n2\t120", id="no last newline"),
        pytest.param("0\t0\n1\t52\n2\t120\n3\t172\n", id="a row too many"),
        pytest.param("0\t0\n1\t56\n2\t120\n", id="wrong offset"),
        pytest.param("0\t0\n1\t120\n2\t52\n", id="offsets exchanged"),
        pytest.param("0\t0\n2\t120\n1\t52\n", id="rows exchanged"),
        pytest.param("a\t0\nb\t52\nc\t120\n", id="keys of text"),
        pytest.param("1\t0\n2\t52\n3\t120\n", id="keys from 1"),
        pytest.param("0\t0\n1\t-52\n2\t120\n", id="negative"),
        pytest.param("0 0\n1 52\n2 120\n", id="spaces"),
        pytest.param("0\t0\n1\t52\n2\t\n", id="no offset"),
        pytest.param("0\t0\n1\t5²\n2\t120\n", id="not ASCII"),
        pytest.param("0\t0\n\n1\t52\n2\t120\n", id="blank line"),
        pytest.param("\0" * 14, id="zeros"),
    ],
)
def test_split_wrong_idx_is_refused(folder: Path, idx: str) -> None:
    edit(folder, "train.idx", idx.encode())
    refused(folder, r"train\.idx")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("0\t1\t0\t0\t", "0\t0\t0\t0\t", id="label"),
        pytest.param("0\t1\t0\t0\t", "0\t1\t1\t0\t", id="study type"),
        pytest.param("0\t1\t0\t0\t", "0\t1\t0\t1\t", id="study"),
        pytest.param("0\t1\t0\t0\t", "0\t2\t0\t0\t", id="label of 2"),
        pytest.param("0\t1\t0\t0\t", "0\t1\t2\t0\t", id="no such type"),
        pytest.param("0\t1\t0\t0\t", "7\t1\t0\t0\t", id="index"),
        pytest.param("0\t1\t0\t0\t", "0\t1\t0\t", id="a column short"),
        pytest.param("0\t1\t0\t0\t", "0\t1\t0\t0\t\t", id="a column too many"),
        pytest.param("0\t1\t0\t0\t", "0\t1.0\t0\t0\t", id="a fraction"),
        pytest.param("0\t1\t0\t0\t", "0\t-1\t0\t0\t", id="negative"),
        pytest.param("image1.png\n", "image1.png", id="lines joined"),
        pytest.param("image1.png\n", "image1.png\n\n", id="blank line"),
        pytest.param("image1.png\n", "image1\r.png\n", id="carriage return"),
    ],
)
def test_split_wrong_lst_is_refused(folder: Path, old: str, new: str) -> None:
    text = (folder / "train.lst").read_text(encoding="utf-8")
    assert text.count(old) == 1
    edit(folder, "train.lst", text.replace(old, new).encode())
    refused(folder, r"train\.lst")


def test_split_lst_that_is_no_utf8_is_refused(folder: Path) -> None:
    edit(folder, "train.lst", (folder / "train.lst").read_bytes() + b"\xff\n")
    refused(folder, r"train\.lst: cannot be read")


@pytest.mark.parametrize("count", [0, 2, 4, -1])
def test_split_other_count_in_pack_json_is_refused(folder: Path, count: int) -> None:
    def change(meta: dict) -> None:
        meta["splits"]["train"]["records"] = count

    edit_json(folder, change)
    refused(folder, f"lists 3 images, .* 3, pack.json {count}: ")


@pytest.mark.parametrize("name", FILES)
def test_verify_checksums_changed_byte_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(bytes(data))
    split = packed_folder.Split(
        folder,
        Path(name).stem,
        0,
        32,
        (),
        packed_folder.open_packed(folder).meta.splits[Path(name).stem].files,
        {},
    )
    with pytest.raises(XenonError, match=f"{name}: changed on disk"):
        split.verify_checksums()


def test_split_hashes_the_rec_while_it_is_parsed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    sha256 = files.sha256

    def record(file: Path) -> str:
        hashed.append(file.name)
        return sha256(file)

    monkeypatch.setattr(files, "sha256", record)
    packed_folder.open_packed(folder).split("train")
    assert sorted(hashed) == ["train.idx", "train.lst"]


@pytest.mark.parametrize("surplus", [recordio.pack(3, (1, 0, 0), b"more"), b"noise"])
def test_split_bytes_behind_the_last_record_are_refused(
    folder: Path, surplus: bytes
) -> None:
    edit(folder, "train.rec", (folder / "train.rec").read_bytes() + surplus)
    refused(folder, r"train\.rec: ")


def test_verify_checksums_changed_pixels_only_are_refused(folder: Path) -> None:
    data = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(data.replace(b"first", b"fists"))

    with pytest.raises(XenonError, match=r"train\.rec: changed on disk"):
        packed_folder.open_packed(folder).split("train")


# --- all or nothing ---


def test_transaction_shows_nothing_before_commit(tmp_path: Path) -> None:
    with pack_writer.PackTransaction(tmp_path / "out", False) as out:
        meta = fill(out)
        assert os.listdir(tmp_path / "out") == [out.folder.name]
        with pytest.raises(XenonError, match="not a packed folder"):
            packed_folder.open_packed(tmp_path / "out")
        out.commit(meta)
        assert packed_folder.open_packed(tmp_path / "out").splits == ["train", "valid"]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(["pack.json", *FILES])


def fail(folder: Path) -> None:
    with pack_writer.PackTransaction(folder, overwrite=True) as out:
        fill(out, train=VALID)
        raise ZeroDivisionError


def test_transaction_failing_removes_what_it_made(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_transaction_left_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with pack_writer.PackTransaction(tmp_path / "out", False) as out:
        fill(out)
    assert os.listdir(tmp_path) == []


def test_transaction_failing_leaves_an_old_pack_as_it_was(folder: Path) -> None:
    before = snapshot(folder)
    with pytest.raises(ZeroDivisionError):
        fail(folder)
    assert snapshot(folder) == before


def test_transaction_failing_leaves_an_empty_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_transaction_failing_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    assert snapshot(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("name", ["pack.json", "train.rec", "holdout.lst"])
def test_transaction_folder_in_use_needs_overwrite(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(XenonError, match=f"already holds {name}; .*--overwrite"):
        pack(tmp_path)
    assert snapshot(tmp_path) == {name: b"old"}

    pack(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == sorted(["pack.json", *FILES])


def test_transaction_overwrites_no_write_protected_file(folder: Path) -> None:
    before = snapshot(folder)
    (folder / "valid.idx").chmod(0o444)
    with pytest.raises(XenonError, match=r"valid\.idx: is write-protected"):
        pack(folder, overwrite=True, train=VALID)
    assert snapshot(folder) == before


def test_transaction_overwriting_leaves_other_files_alone(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    pack(folder, overwrite=True, train=VALID)
    assert (folder / "notes.txt").read_text() == "mine"
    assert packed_folder.open_packed(folder).split("train").records == 1


def test_transaction_removes_the_leftovers_of_a_killed_one(tmp_path: Path) -> None:
    leftover = tmp_path / ".xenon-0123456789abcdef.partial"
    leftover.mkdir()
    (leftover / "train.rec").write_bytes(b"half")
    pack(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(["pack.json", *FILES])


def test_transaction_out_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(XenonError, match=str(out)):
            pack(out)
    assert snapshot(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("name", FILES)
def test_commit_of_a_wrongly_written_file_is_refused(tmp_path: Path, name: str) -> None:
    with pack_writer.PackTransaction(tmp_path / "out", False) as out:
        meta = fill(out)
        data = bytearray((out.folder / name).read_bytes())
        data[-1] ^= 1
        (out.folder / name).write_bytes(bytes(data))
        with pytest.raises(XenonError, match=name):
            out.commit(meta)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "row", [RecordLabels(2, 0, 0, "a.png"), RecordLabels(0, 2, 0, "a.png")]
)
def test_commit_of_a_label_or_type_out_of_range_is_refused(
    tmp_path: Path, row: RecordLabels
) -> None:
    with pytest.raises(XenonError, match=r"train\.lst:1: out of range"):
        pack(tmp_path / "out", train=[(b"image", row)])


def test_transaction_full_disk_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(XenonError, match=r"out: File too large"):
            pack(
                tmp_path / "out",
                train=[(bytes(1 << 19), RecordLabels(0, 0, 0, "a.png"))] * 3,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_writer_never_overwrites_a_file(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_text("mine")
    with pytest.raises(FileExistsError):
        pack_writer.SplitWriter(tmp_path, "train")


# --- killed ---

# Packs as `pack` does, and kills itself before the n-th call of one function.
KILLED = """
import os, signal, sys
from pathlib import Path
import test_packed_folder
from xenon_mx.data import pack_writer

owner, name, calls = sys.argv[2], sys.argv[3], int(sys.argv[4])
owner = {"os": os, "SplitWriter": pack_writer.SplitWriter, "Path": Path}[owner]
work = getattr(owner, name)

def dying(*args, **kwargs):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(*args, **kwargs)

setattr(owner, name, dying)
test_packed_folder.pack(
    Path(sys.argv[1]), overwrite=True, train=test_packed_folder.VALID
)
"""


@pytest.mark.parametrize(
    ("old", "function", "calls"),
    [
        (False, "SplitWriter.add", 1),
        (False, "SplitWriter.add", 2),
        (False, "os.replace", 1),  # pack.json, still in its hidden folder
        (False, "os.replace", 2),
        (False, "os.replace", 8),  # pack.json itself
        (True, "os.fsync", 2),
        (True, "Path.unlink", 1),
        (True, "Path.unlink", 2),
        (True, "os.replace", 3),
        (True, "os.replace", 8),
    ],
)
def test_transaction_killed_leaves_the_old_pack_or_none(
    tmp_path: Path, old: bool, function: str, calls: int
) -> None:
    out = tmp_path / "out"
    before = snapshot(pack(out).folder) if old else {}
    after = snapshot(pack(tmp_path / "wanted", train=VALID).folder)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), *function.split("."), str(calls)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": paths.PYTHONPATH},
        timeout=60,
    )

    assert killed.returncode == -signal.SIGKILL
    if (out / "pack.json").exists():
        left = {k: v for k, v in snapshot(out).items() if not k.startswith(".")}
        assert left == before
        packed_folder.open_packed(out).split("train").verify_checksums()
    else:
        with pytest.raises(XenonError, match="not a packed folder"):
            packed_folder.open_packed(out)

    pack(out, overwrite=True, train=VALID)
    assert snapshot(out) == after


@pytest.mark.parametrize("kind", pack_meta.KINDS)
def test_a_file_that_cannot_be_read_is_not_called_damaged(
    folder: Path, kind: str
) -> None:
    """Usually a file without read permission; a folder fails for root, too."""
    split = packed_folder.open_packed(folder).split("train")
    split.path(kind).unlink()
    split.path(kind).mkdir()
    with pytest.raises(XenonError) as caught:
        split.rows(), list(split.images()), split._offsets()
    assert str(caught.value) == f"{split.path(kind)}: Is a directory"


def test_a_pack_json_that_may_not_be_read_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(XenonError) as caught:
        packed_folder.open_packed(folder)
    assert str(caught.value) == f"{folder / 'pack.json'}: Permission denied"
