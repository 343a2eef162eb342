"""The packed folder of a fold: the records of another one, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import patients

from xenon_mx.data import fold_packing, folds, mura, packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files


@pytest.fixture(scope="module", params=[0.0, 0.3])
def pool(request, tmp_path_factory):
    """The pool of a packed folder, of the train split or of train and holdout."""
    folder = tmp_path_factory.mktemp("folds")
    holdout = request.param
    packed = patients.pack_manifest(folder, holdout=holdout, seed=2)
    return fold_packing.Pool.open(packed)


def test_it_is_a_packed_folder_with_the_same_images_and_what_is_told_of_them(
    pool, tmp_path
):
    source = {}
    for split in pool.splits.values():
        for image, record in zip(split.listed(), split.images()):
            source[image.path] = image, record
    for fold in folds.assign(pool.images, 3, seed=0):
        written = fold_packing.write(pool, fold, tmp_path / str(fold.number))
        packed = packed_folder.open_packed(written.folder)
        assert packed.splits == ["train", "valid", "holdout"]
        assert packed.preprocessing == pool.packed.preprocessing
        assert packed.study_types == pool.packed.study_types
        parts = {"train": fold.train, "valid": fold.left_out, "holdout": fold.tuning}
        seen = []
        for name, listed in parts.items():
            split = packed.split(name)  # verified, record by record
            images = split.listed()
            assert [i.path for i in images] == [e.image.path for e in listed]
            for image, record in zip(images, split.images()):
                original, copied = source[image.path]
                assert replace(image, file=original.file) == original
                assert image.extra == original.extra
                assert record.image == copied.image
                assert record.labels[:2].tolist() == copied.labels[:2].tolist()
            numbers = [row.study for row in split.rows()]
            assert len(set(numbers)) == len({image.study for image in images})
            assert max(numbers) == len(set(numbers)) - 1
            seen += images
        assert len(seen) == len(source)
        labels = [e.image.label for e in fold.train]
        assert packed.meta.pooled_weights[0] == sum(labels) / len(labels)
        assert packed.meta.weights == {
            name: counts.weights
            for name, counts in mura.count([e.image for e in fold.train]).items()
        }


def test_training_records_are_in_the_order_of_a_pack_without_a_holdout(pool, tmp_path):
    whole = patients.pack_manifest(tmp_path, seed=2)
    wanted = [image.path for image in whole.split("train").listed()]
    assert [each.image.path for each in pool.images] == wanted


def test_the_same_fold_is_the_same_data_wherever_it_is_written(pool, tmp_path):
    fold, other = folds.assign(pool.images, 2, seed=0)
    first = fold_packing.write(pool, fold, tmp_path / "a")
    assert fold_packing.write(pool, fold, tmp_path / "b").fingerprint == (
        first.fingerprint
    )
    assert fold_packing.write(pool, other, tmp_path / "c").fingerprint != (
        first.fingerprint
    )
    sizes = sum(file.stat().st_size for file in (tmp_path / "a").glob("*.rec"))
    assert sizes <= pool.bytes


def test_what_is_left_of_one_is_replaced_and_removed(pool, tmp_path):
    fold = folds.assign(pool.images, 2, seed=0)[0]
    out = tmp_path / "packed"
    fold_packing.write(pool, fold, out)
    assert fold_packing.open_if_whole(out) is not None
    (out / "train.rec").write_bytes(b"cut short")
    assert fold_packing.open_if_whole(out) is None
    fold_packing.write(pool, fold, out)
    assert fold_packing.open_if_whole(out) is not None
    (out / "notes.txt").write_text("mine")
    fold_packing.remove(out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    fold_packing.remove(tmp_path / "nothing")


def test_a_record_that_was_damaged_is_found(pool, tmp_path):
    rec = pool.splits["train"].path("rec")
    whole = rec.read_bytes()
    try:
        rec.write_bytes(whole[:-8] + bytes(8))
        with pytest.raises(XenonError, match="train.rec"):
            fold_packing.Pool.open(pool.packed)
    finally:
        rec.write_bytes(whole)
    assert files.sha256(rec) == pool.splits["train"].files["train.rec"].sha256


def test_without_training_images_there_is_nothing_to_fold(tmp_path):
    manifest = patients.write_manifest(tmp_path)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(x for x in lines if ",train," not in x) + "\n")
    packed = patients.pack.pack(
        patients.PackConfig(manifest, tmp_path / "packed", size=32)
    )
    with pytest.raises(XenonError, match="holds no train split"):
        fold_packing.Pool.open(packed)
