"""xenon-pack: from a folder of radiographs to a packed folder."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Iterator

import cv2
import numpy as np
import pytest

from xenon_mx import console
from xenon_mx.commands import pack as packing
from xenon_mx.config import PackConfig
from xenon_mx.data import packed_folder
from xenon_mx.data.pack_meta import FileMeta
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files, progress
from xenon_mx.runtime import threads as parallel

Tree = Callable[..., Path]

SIZE = 32


def pack(source: Path, out: Path, **flags: Any) -> packed_folder.PackedFolder:
    flags = {"size": SIZE, "threads": 2, **flags}
    return packing.pack(PackConfig(source=source, out=out, **flags))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def listed(root: Path, split: str) -> list[str]:
    return (root / f"{split}_image_paths.csv").read_text().splitlines()


def packed_paths(packed: packed_folder.PackedFolder, split: str) -> list[str]:
    return [row.path for row in packed.split(split).rows()]


def patient(path: str) -> str:
    return path.split("/")[-3]


def study_type(path: str) -> str:
    return path.split("/")[-4]


# --- the same bytes ---


def test_pack_any_number_of_threads_gives_the_same_bytes(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    one, two, five = (
        snapshot(pack(root, tmp_path / f"j{j}", threads=j, holdout=0.4).folder)
        for j in (1, 2, 5)
    )
    assert one == two == five
    assert len(one) == 10


@pytest.mark.parametrize("csvs", [True, False])
def test_pack_any_working_directory_gives_the_same_bytes(
    mura_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, csvs: bool
) -> None:
    root = mura_tree(csvs=csvs)
    wanted = snapshot(pack(root, tmp_path / "wanted").folder)

    for number, cwd in enumerate([tmp_path, root, root / "train" / "XR_HAND"]):
        monkeypatch.chdir(cwd)
        out = tmp_path / f"out{number}"
        source = Path(os.path.relpath(root))
        assert snapshot(pack(source, Path(os.path.relpath(out))).folder) == wanted


def test_pack_copied_data_set_gives_the_same_bytes(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    shutil.copytree(root, tmp_path / "deep" / "er" / "bones")
    wanted = snapshot(pack(root, tmp_path / "a").folder)
    assert snapshot(pack(tmp_path / "deep/er/bones", tmp_path / "b").folder) == wanted


def test_pack_csvs_away_from_the_images_needs_root(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    wanted = snapshot(pack(root, tmp_path / "wanted").folder)
    lists = tmp_path / "far" / "away"
    lists.mkdir(parents=True)
    for csv in root.glob("*.csv"):
        csv.rename(lists / csv.name)

    with pytest.raises(XenonError, match="--root"):
        pack(lists, tmp_path / "out")
    packed = pack(lists, tmp_path / "out", root=tmp_path)
    assert packed.meta.images_from == {"train": "root", "valid": "root"}
    written = snapshot(packed.folder)
    assert written.pop("pack.json") != wanted.pop("pack.json")
    assert written == wanted


def test_pack_takes_the_images_of_source_and_not_of_the_working_directory(
    mura_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of MURA beside MURA itself, both with the same paths in their CSVs."""
    root = mura_tree()
    shutil.copytree(root, tmp_path / "cleaned")
    for file in (tmp_path / "cleaned").rglob("*.png"):
        cv2.imwrite(str(file), 255 - cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
    monkeypatch.chdir(tmp_path)
    packed = pack(Path("cleaned"), Path("out"), encoding="png")
    for file, pixels in decoded(packed, "train"):
        copy = tmp_path / "cleaned" / file.relative_to("MURA-v1.1")
        assert np.array_equal(pixels, square_of(copy, "stretch")), copy


@pytest.mark.parametrize("csvs", [True, False])
def test_pack_json_has_the_rule_by_which_images_were_found_and_no_path(
    mura_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, csvs: bool
) -> None:
    root = mura_tree(csvs=csvs)
    monkeypatch.chdir(tmp_path)
    packed = pack(root, tmp_path / "a", holdout=0.4)
    rule = "parent" if csvs else "source"
    wanted = dict.fromkeys(("train", "valid", "holdout"), rule)
    assert packed.meta.images_from == wanted
    content = json.loads((packed.folder / "pack.json").read_text())
    assert content["images_from"] == wanted
    assert str(tmp_path) not in json.dumps(content)
    # Runs of all versions identify the data by what 0.1.0 would have written.
    del content["images_from"], content["checksum"]
    for split in content["splits"].values():
        for counts in split["counts"].values():
            del counts["abnormal_studies"]
    first = files.json_bytes({**content, "xenon": "0.1.0"})
    assert packed.fingerprint == hashlib.sha256(first).hexdigest()


# --- pixels ---


def square_of(file: Path, fit: str) -> np.ndarray:
    """Return an image file scaled to the square by OpenCV alone."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image.ndim == 3:
        image = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
    if image.dtype == np.uint16:
        image = np.round(image / 257).astype(np.uint8)
    height, width = image.shape
    ratio = SIZE / max(height, width)
    wanted = (SIZE, SIZE)
    if fit == "pad":
        wanted = (round(width * ratio), round(height * ratio))
    shrunk = (min(width, wanted[0]), min(height, wanted[1]))
    image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR)
    x, y = (SIZE - wanted[0]) // 2, (SIZE - wanted[1]) // 2
    right, bottom = SIZE - wanted[0] - x, SIZE - wanted[1] - y
    return cv2.copyMakeBorder(image, y, bottom, x, right, cv2.BORDER_CONSTANT, value=0)


def decoded(
    packed: packed_folder.PackedFolder, split: str
) -> Iterator[tuple[Path, np.ndarray]]:
    """Return each packed image's path and pixels, read by MXNet and OpenCV."""
    from xenon_mx.runtime.mxnet import mx

    base = packed.folder / split
    reader = mx.recordio.MXIndexedRecordIO(f"{base}.idx", f"{base}.rec", "r")
    for key, path in zip(reader.keys, packed_paths(packed, split)):
        header, data = mx.recordio.unpack(reader.read_idx(key))
        assert header.id == key
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        yield packed.folder.parent / path, image
    reader.close()


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_pack_png_holds_exactly_the_pixels(
    mura_tree: Tree, tmp_path: Path, fit: str
) -> None:
    packed = pack(mura_tree(), tmp_path / "out", encoding="png", fit=fit)
    for split in ("train", "valid"):
        for file, pixels in decoded(packed, split):
            assert np.array_equal(pixels, square_of(file, fit)), file


@pytest.mark.parametrize("quality", [95, 60])
def test_pack_jpg_holds_one_encoding_of_the_pixels(
    mura_tree: Tree, tmp_path: Path, quality: int
) -> None:
    packed = pack(mura_tree(), tmp_path / "out", quality=quality)
    for file, pixels in decoded(packed, "train"):
        square = square_of(file, "stretch")
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        once = cv2.imdecode(cv2.imencode(".jpg", square, options)[1], 0)
        assert np.array_equal(pixels, once), file


def test_pack_defaults_are_the_papers_320_in_gray_jpg(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree(types=("XR_HAND",))
    packed = packing.pack(PackConfig(source=root, out=tmp_path / "out"))
    assert packed.preprocessing == {"size": 320, "fit": "stretch"}
    record = next(packed.split("valid").images())
    assert record.image[:3] == b"\xff\xd8\xff"
    image = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (320, 320)


# --- order and numbers ---


def test_pack_train_is_a_permutation_of_the_csv(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    paths = packed_paths(pack(root, tmp_path / "a"), "train")
    other = packed_paths(pack(root, tmp_path / "b", seed=1), "train")

    assert sorted(paths) == sorted(other) == sorted(listed(root, "train"))
    assert len({tuple(paths), tuple(other), tuple(listed(root, "train"))}) == 3


def test_pack_train_mixes_the_study_types(mura_tree: Tree, tmp_path: Path) -> None:
    root = mura_tree(patients=12)

    def changes(paths: list[str]) -> int:
        kinds = [study_type(path) for path in paths]
        return sum(a != b for a, b in zip(kinds, kinds[1:]))

    paths = packed_paths(pack(root, tmp_path / "out"), "train")

    # Of three equal types in random order, two thirds of the neighbours differ.
    assert changes(listed(root, "train")) == 2
    assert changes(paths) > len(paths) / 2


def test_pack_train_order_comes_from_paths_and_not_from_the_csv(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    before = packed_paths(pack(root, tmp_path / "a"), "train")
    csv = root / "train_image_paths.csv"
    csv.write_text("\n".join(sorted(listed(root, "train"), reverse=True)))
    assert packed_paths(pack(root, tmp_path / "b"), "train") == before


def test_pack_valid_is_in_the_order_of_the_csv(mura_tree: Tree, tmp_path: Path) -> None:
    root = mura_tree()
    packed = pack(root, tmp_path / "out", holdout=0.4)

    assert packed_paths(packed, "valid") == listed(root, "valid")
    holdout = packed_paths(packed, "holdout")
    assert holdout == [path for path in listed(root, "train") if path in holdout]


def test_pack_rows_carry_label_type_and_study(mura_tree: Tree, tmp_path: Path) -> None:
    packed = pack(mura_tree(), tmp_path / "out")

    assert packed.study_types == ("XR_ELBOW", "XR_HAND", "XR_WRIST")
    for split in packed.splits:
        rows = packed.split(split).rows()
        folders: dict[int, set[str]] = collections.defaultdict(set)
        for row in rows:
            assert row.abnormal == int("positive" in row.path)
            assert packed.study_types[row.study_type] == study_type(row.path)
            folders[row.study].add(row.path.rpartition("/")[0])
        assert all(len(names) == 1 for names in folders.values())
        # Every folder has one number, and the numbers count up as they appear.
        assert len(folders) == len({row.path.rpartition("/")[0] for row in rows})
        assert list(folders) == list(range(len(folders)))


def test_pack_any_study_type_is_taken_from_the_data(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree(types=("XR_KNEE", "XR_FOOT_left"))
    packed = pack(root, tmp_path / "out")
    assert packed.study_types == ("XR_FOOT_left", "XR_KNEE")


# --- pack.json ---


def test_pack_json_counts_and_weights_are_those_of_the_csvs(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    meta = pack(root, tmp_path / "out").meta

    for split in ("train", "valid"):
        paths = listed(root, split)
        assert meta.splits[split].records == len(paths)
        for kind in ("XR_ELBOW", "XR_HAND", "XR_WRIST"):
            of_type = [path for path in paths if f"/{kind}/" in path]
            assert asdict(meta.splits[split].counts[kind]) == {
                "images": len(of_type),
                "studies": len({path.rpartition("/")[0] for path in of_type}),
                "abnormal": sum("positive" in path for path in of_type),
                "normal": sum("negative" in path for path in of_type),
                "missing": 0,
                "abnormal_studies": len(
                    {p.rpartition("/")[0] for p in of_type if "positive" in p}
                ),
            }

    train = listed(root, "train")
    for kind, (of_normal, of_abnormal) in meta.weights.items():
        labels = ["positive" in path for path in train if f"/{kind}/" in path]
        assert of_normal == pytest.approx(np.mean(labels))
        assert of_abnormal == pytest.approx(1 - np.mean(labels))
    labels = ["positive" in path for path in train]
    assert meta.pooled_weights == pytest.approx((np.mean(labels), 1 - np.mean(labels)))


def test_pack_json_checksums_are_those_of_the_files(
    mura_tree: Tree, tmp_path: Path
) -> None:
    packed = pack(mura_tree(), tmp_path / "out", holdout=0.4)
    recorded = {
        name: file
        for split in packed.meta.splits.values()
        for name, file in split.files.items()
    }
    files = snapshot(packed.folder)
    del files["pack.json"]
    assert recorded == {
        name: FileMeta(len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    }


def test_pack_json_records_the_settings(mura_tree: Tree, tmp_path: Path) -> None:
    root = mura_tree()
    jpg = pack(root, tmp_path / "a", fit="pad", seed=3).meta
    png = pack(root, tmp_path / "b", encoding="png", holdout=0.4).meta

    assert (jpg.size, jpg.fit, jpg.encoding) == (SIZE, "pad", "jpg")
    assert (jpg.quality, jpg.seed) == (95, 3)
    assert (png.encoding, png.quality, png.holdout) == ("png", None, 0.4)
    assert jpg.skipped == ()


def test_pack_json_fingerprint_tells_other_sources_apart(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    outs = (tmp_path / f"out{i}" for i in range(9))

    def fingerprint(**flags: Any) -> str:
        return pack(root, next(outs), **flags).meta.source_sha256

    before = fingerprint()
    assert fingerprint(encoding="png", fit="pad") == before

    first = tmp_path / listed(root, "train")[0]
    image = cv2.imread(str(first), cv2.IMREAD_UNCHANGED)
    image[0, 0] ^= 1
    cv2.imwrite(str(first), image)
    assert fingerprint() != before


# --- holdout ---


def test_pack_holdout_moves_whole_patients_out_of_train(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree(patients=8)
    packed = pack(root, tmp_path / "out", holdout=0.4)

    assert packed.splits == ["train", "valid", "holdout"]
    train, holdout = (packed_paths(packed, split) for split in ("train", "holdout"))
    assert not {patient(path) for path in train} & {patient(path) for path in holdout}
    assert sorted(train + holdout) == sorted(listed(root, "train"))
    assert packed_paths(packed, "valid") == listed(root, "valid")


def test_pack_holdout_weights_come_from_what_is_left(
    mura_tree: Tree, tmp_path: Path
) -> None:
    packed = pack(mura_tree(patients=8), tmp_path / "out", holdout=0.4)
    labels = [row.abnormal for row in packed.split("train").rows()]
    assert packed.meta.pooled_weights[0] == pytest.approx(np.mean(labels))


def test_pack_holdout_that_empties_a_split_is_refused(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree(patients=2)
    with pytest.raises(XenonError, match="leaves a split empty"):
        pack(root, tmp_path / "out", holdout=1e-9)
    assert not (tmp_path / "out").exists()


def test_pack_holdout_without_train_is_refused(mura_tree: Tree, tmp_path: Path) -> None:
    root = mura_tree()
    for name in ("train_image_paths.csv", "train_labeled_studies.csv"):
        (root / name).unlink()
    shutil.rmtree(root / "train")
    with pytest.raises(XenonError, match="--holdout needs a train split"):
        pack(root, tmp_path / "out", holdout=0.1)


# --- calibration ---


def test_pack_calibration_takes_patients_from_train_alone(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree(patients=16)
    usual = pack(root, tmp_path / "a", holdout=0.3)
    packed = pack(root, tmp_path / "b", holdout=0.3, calibration=0.3)
    assert packed.splits == ["train", "valid", "holdout", "calibration"]
    paths = {name: packed_paths(packed, name) for name in packed.splits}
    for name in ("valid", "holdout"):
        assert paths[name] == packed_paths(usual, name)
    both = paths["train"] + paths["calibration"]
    assert sorted(both) == sorted(packed_paths(usual, "train"))
    patients = [{patient(path) for path in of_split} for of_split in paths.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    labels = [row.abnormal for row in packed.split("train").rows()]
    assert packed.meta.pooled_weights[0] == pytest.approx(np.mean(labels))
    assert packed.meta.calibration == 0.3
    # Drawn independently of the holdout: it is no part of what a larger one takes.
    larger = pack(root, tmp_path / "c", holdout=0.6)
    assert not patients[3] <= {patient(p) for p in packed_paths(larger, "holdout")}


def test_pack_without_calibration_is_what_it_was(
    mura_tree: Tree, tmp_path: Path
) -> None:
    packed = pack(mura_tree(), tmp_path / "out", holdout=0.4)
    assert "calibration" not in (packed.folder / "pack.json").read_text()


def test_pack_calibration_refuses_a_patient_of_another_split(
    mura_tree: Tree, tmp_path: Path
) -> None:
    """The data set's own folders say so, and only calibration insists on it."""
    root = mura_tree(patients=8, csvs=False)
    for study_type in sorted((root / "train").iterdir()):
        for of_patient in sorted(study_type.iterdir()):
            copy = root / "valid" / study_type.name / of_patient.name
            shutil.copytree(of_patient, copy)
    with pytest.raises(XenonError, match=r"in both valid and calibration.* --calibr"):
        pack(root, tmp_path / "out", calibration=0.4)
    assert not (tmp_path / "out").exists()
    assert pack(root, tmp_path / "out").splits == ["train", "valid"]


# --- bad images ---


def spoil(root: Path) -> list[str]:
    """Damage five images in four ways; return their paths in the order of the CSVs."""
    train, valid = listed(root, "train"), listed(root, "valid")
    chosen = [*train[2:20:5], valid[3]]
    for number, path in enumerate(chosen):
        file = root.parent / path
        if number == 0:
            file.unlink()
        elif number == 1:
            file.write_bytes(b"")
        elif number == 2:
            file.write_bytes(b"no image at all")
        else:
            file.write_bytes(file.read_bytes()[:-20])
    return chosen


def test_pack_bad_images_are_all_listed_and_nothing_is_left(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    spoilt = spoil(root)

    with pytest.raises(XenonError, match="5 images cannot be read: .*--skip-bad") as e:
        pack(root, tmp_path / "out")

    lines = sorted(e.value.details)
    assert [line.split(": ")[0] for line in lines] == sorted(
        str(tmp_path / path) for path in spoilt
    )
    reasons = {line.split(": ", 1)[1] for line in lines}
    assert {"No such file or directory", "the file is empty"} < reasons
    assert not (tmp_path / "out").exists()


def test_pack_bad_images_leave_an_old_pack_as_it_was(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    before = snapshot(pack(root, tmp_path / "out").folder)
    spoil(root)

    with pytest.raises(XenonError, match="5 images cannot be read"):
        pack(root, tmp_path / "out", overwrite=True)

    assert snapshot(tmp_path / "out") == before


def test_pack_skip_bad_leaves_them_out_and_logs_them(
    mura_tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = mura_tree()
    spoilt = spoil(root)

    packed = pack(root, tmp_path / "out", skip_bad=True)

    skipped = packed.meta.skipped
    assert {image.path for image in skipped} == set(spoilt)
    assert not any(str(tmp_path) in image.reason for image in skipped)
    assert [image.split for image in skipped] == ["train"] * 4 + ["valid"]
    assert sum("left out: " in message for message in caplog.messages) == 5
    for split in ("train", "valid"):
        wanted = set(listed(root, split)) - set(spoilt)
        assert set(packed_paths(packed, split)) == wanted
        counts = packed.meta.splits[split].counts.values()
        assert sum(each.images for each in counts) == len(wanted)
        assert sum(each.missing for each in counts) == {"train": 4, "valid": 1}[split]


def test_pack_skip_bad_with_nothing_left_of_a_split_is_refused(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    for path in listed(root, "valid"):
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(XenonError, match="the valid split has no readable image"):
        pack(root, tmp_path / "out", skip_bad=True)
    assert not (tmp_path / "out").exists()


# --- warnings ---


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


def test_pack_good_data_set_warns_of_nothing(
    mura_tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(mura_tree(), tmp_path / "out")
    assert warnings(caplog) == []


def test_pack_type_of_one_class_warns_and_has_weight_0(
    mura_tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = mura_tree(csvs=False)
    for study in (root / "train" / "XR_HAND").glob("*/*_positive"):
        shutil.rmtree(study)

    packed = pack(root, tmp_path / "out")

    (warning,) = warnings(caplog)
    assert warning.startswith("XR_HAND: ")
    assert packed.meta.weights["XR_HAND"] == (0.0, 1.0)


def test_pack_type_that_only_valid_has_warns(
    mura_tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = mura_tree(csvs=False)
    shutil.rmtree(root / "train" / "XR_HAND")

    packed = pack(root, tmp_path / "out")

    (warning,) = warnings(caplog)
    assert warning.startswith("XR_HAND: ")
    assert "XR_HAND" not in packed.meta.weights
    assert "XR_HAND" in packed.study_types


def test_pack_patient_in_train_and_valid_warns_of_leakage(
    mura_tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = mura_tree(csvs=False)
    shutil.copytree(
        root / "train" / "XR_HAND" / "patient00001",
        root / "valid" / "XR_WRIST" / "patient00001",
    )

    pack(root, tmp_path / "out")

    (warning,) = warnings(caplog)
    assert warning.startswith(
        "1 patient is in both train and valid, such as patient00001"
    )


# --- the disk ---


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free))


def test_pack_too_small_a_disk_is_refused_before_any_work(
    mura_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mura_tree()
    disk(monkeypatch, free=1000)
    with pytest.raises(XenonError, match=r"has 1 KB free, but about \d+ KB are needed"):
        pack(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pack_disk_estimate_is_about_what_is_written(
    mura_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mura_tree(patients=10)
    written = sum(
        file.stat().st_size for file in pack(root, tmp_path / "a").folder.glob("*.rec")
    )

    disk(monkeypatch, free=round(written * 1.3))
    pack(root, tmp_path / "b")
    disk(monkeypatch, free=round(written * 0.8))
    with pytest.raises(XenonError, match="the disk has"):
        pack(root, tmp_path / "c")


# --- overwriting ---


def test_pack_into_a_packed_folder_needs_overwrite(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root, out = mura_tree(), tmp_path / "out"
    before = snapshot(pack(root, out, holdout=0.4).folder)

    with pytest.raises(XenonError, match="already holds pack.json; .*--overwrite"):
        pack(root, out)
    assert snapshot(out) == before

    pack(root, out, overwrite=True)
    assert snapshot(out) == snapshot(pack(root, tmp_path / "fresh").folder)


# --- fuzz ---


def truncate(data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def flip_a_bit(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def delete_a_byte(data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at + 1 :]


def use(folder: Path) -> str:
    """Open and verify a packed folder; return the message of the error."""
    try:
        packed = packed_folder.open_packed(folder)
        assert packed.fingerprint
        assert packed.preprocessing
        for name in packed.splits:
            packed.split(name).verify_checksums()
    except XenonError as error:
        return str(error)
    return ""


@pytest.fixture
def small(mura_tree: Tree, tmp_path: Path) -> Path:
    root = mura_tree(types=("XR_HAND",), patients=2)
    return pack(root, tmp_path / "small").folder


@pytest.mark.parametrize("name", ["train.rec", "train.idx", "valid.lst", "pack.json"])
def test_damaged_packed_folder_is_refused_and_never_crashes(
    small: Path, name: str
) -> None:
    file = small / name
    whole = file.read_bytes()
    for damage in (truncate, flip_a_bit, delete_a_byte) * 40:
        file.write_bytes(damage(whole))
        complaint = use(small)
        assert "\n" not in complaint
        # pack.json has no checksum of its own: a digit may change unseen.
        assert complaint or name == "pack.json"
    file.write_bytes(whole)
    assert use(small) == ""


def test_damaged_size_in_pack_json_is_made_good_and_still_refused(small: Path) -> None:
    for name in ("train.rec", "train.idx", "train.lst"):
        files = {f: (small / f).read_bytes() for f in (name, "pack.json")}
        for damage in (truncate, flip_a_bit, delete_a_byte) * 20:
            data = damage(files[name])
            meta = json.loads(files["pack.json"])
            meta["splits"]["train"]["files"][name]["bytes"] = len(data)
            (small / name).write_bytes(data)
            (small / "pack.json").write_text(json.dumps(meta))
            assert use(small) != ""
        for each, data in files.items():
            (small / each).write_bytes(data)


# --- the command ---


def xenon_pack(*words: Any, cwd: Path) -> subprocess.CompletedProcess:
    code = "from xenon_mx.cli import pack; pack()"
    command = [sys.executable, "-c", code, *map(str, words), "--size", str(SIZE)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_xenon_pack_ends_with_0_and_its_summary_on_stderr(
    mura_tree: Tree, tmp_path: Path
) -> None:
    root = mura_tree()
    done = xenon_pack("MURA-v1.1", "out", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "")
    for split in ("train", "valid"):
        count = sum("/XR_HAND/" in path for path in listed(root, split))
        assert any(
            line.split()[:3] == [split, "XR_HAND", str(count)]
            for line in done.stderr.splitlines()
        )
    assert "\r" not in done.stderr
    assert "xenon-train out" in done.stderr.splitlines()[-1]
    assert snapshot(tmp_path / "out") == snapshot(pack(root, tmp_path / "b").folder)


def test_the_table_counts_images_and_studies_and_has_a_row_over_all(
    mura_tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = mura_tree(patients=12)
    packed = pack(root, tmp_path / "out", holdout=0.4, calibration=0.4)
    console.print_packed(packed)
    head, *rows, last = capsys.readouterr().err.splitlines()
    assert re.split("  +", head) == [
        *("split", "study type", "images", "abnormal images"),
        *("studies", "abnormal studies", "left out"),
    ]
    assert last.endswith(f"next: xenon-train {packed.folder} RUN")
    found = {tuple(row.split()[:2]): row.split()[2:] for row in rows}
    for split in packed.splits:
        listed = packed.split(split).listed()
        for name in (*packed.study_types, "overall"):
            chosen = [i for i in listed if name in ("overall", i.study_type)]
            abnormal = [image for image in chosen if image.label]
            if chosen:
                assert found.pop((split, name)) == [
                    *(str(len(chosen)), str(len(abnormal))),
                    str(len({image.study for image in chosen})),
                    str(len({image.study for image in abnormal})),
                    "0",
                ]
    assert found == {}


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("valid", "no split to validate on, .* pack again with --holdout 0.1 --over"),
        ("train", "no train split, .*; next: xenon-predict .*/out/valid.rec OUT.csv"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_says_so_at_once(
    mura_tree: Tree,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    gone: str,
    line: str,
) -> None:
    root = mura_tree(csvs=False)
    shutil.rmtree(root / gone)
    console.print_packed(pack(root, tmp_path / "out"))
    assert re.search(line, capsys.readouterr().err.splitlines()[-1])


def test_xenon_pack_of_bad_images_ends_with_1_and_names_them(
    mura_tree: Tree, tmp_path: Path
) -> None:
    spoilt = spoil(mura_tree())
    done = xenon_pack("MURA-v1.1", "out", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("error: 5 images cannot be read")
    assert all(path in done.stderr for path in spoilt)
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["MURA-v1.1"]


# --- threads ---


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_in_order_whatever_ends_first_keeps_the_order(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3 == 0))
        return number * number

    squares = [n * n for n in range(40)]
    assert list(parallel.map_in_order(work, range(40), threads)) == squares


def test_in_order_reads_no_further_than_a_few_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = parallel.map_in_order(str, items(), 2)
    assert [next(results) for _ in range(10)] == [str(n) for n in range(10)]
    assert len(taken) < 30
    results.close()
    assert len(taken) < 30


def test_in_order_error_comes_in_its_place_and_ends_the_work() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return 1 // (5 - number)

    results = parallel.map_in_order(work, range(1000), 2)
    assert [next(results) for _ in range(5)] == [0, 0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(done) < 30


def test_in_order_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = parallel.map_in_order(str, range(1000), 5)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_prefetch_yields_all_items_and_then_the_error() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    assert list(parallel.prefetch(iter([]))) == []
    assert list(parallel.prefetch(iter(range(9)))) == list(range(9))
    results = parallel.prefetch(items())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


# --- progress ---


class CountingBar:
    """A bar with tqdm's signature that only counts."""

    def __init__(self, total: int, unit: str, desc: str) -> None:
        self.total, self.done = total, 0

    def __enter__(self) -> CountingBar:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def update(self, count: int = 1) -> None:
        """Add to the count."""
        self.done += count


def test_pack_bar_counts_every_image(mura_tree: Tree, tmp_path: Path) -> None:
    root = mura_tree()
    bars: list[CountingBar] = []

    def bar(**options: Any) -> CountingBar:
        bars.append(CountingBar(**options))
        return bars[-1]

    config = PackConfig(source=root, out=tmp_path / "out", size=SIZE)
    packing.pack(config, bar)

    images = len(listed(root, "train")) + len(listed(root, "valid"))
    assert [(b.total, b.done) for b in bars] == [(images, images)]


def test_a_bar_for_a_file_writes_whole_lines() -> None:
    stream = io.StringIO()
    with progress.for_stream(stream)(total=3, desc="packing", unit="img") as shown:
        for _ in range(3):
            shown.update()
            shown.refresh()
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().endswith("\n")
    counts = [line.split()[2] for line in stream.getvalue().splitlines()]
    assert counts == ["1/3", "2/3", "3/3"]


def test_silent_bar_writes_nothing(capfd: pytest.CaptureFixture) -> None:
    with progress.silent(total=3) as shown:
        shown.update(3)
    assert capfd.readouterr() == ("", "")


def test_track_advances_the_bar_after_each_batch() -> None:
    shown = CountingBar(total=5, unit="", desc="")
    seen = []
    for batch in progress.track([[1, 2], [3, 4], [5]], shown):
        seen.append((batch, shown.done))
    assert seen == [([1, 2], 0), ([3, 4], 2), ([5], 4)]
    assert shown.done == 5


def test_packing_into_the_data_set_itself_is_refused(mura_tree: Tree) -> None:
    root = mura_tree()
    with pytest.raises(XenonError, match="is the data set itself"):
        packing.pack(PackConfig(root, root))
