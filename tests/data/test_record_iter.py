"""Batches of ImageRecordIter: augmentation, order and completeness, on known images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import synthetic

from xenon_mx.data import record_iter
from xenon_mx.errors import XenonError
from xenon_mx.runtime.mxnet import mx

SIZE = 64


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Return an image that shows its angle and flip, and a split of 400 copies."""
    marker = np.zeros((SIZE, SIZE), np.uint8)
    marker[20:28, 40:56] = 255
    marker[40:44, 4:30] = 128
    marker[0:3] = 77  # an edge, so that corners are black only if it is rotated
    folder = tmp_path_factory.mktemp("marked") / "packed"
    packed = synthetic.pack(folder, {"train": (np.stack([marker] * 400), [0, 1] * 200)})
    return marker, packed.split("train")


@pytest.fixture(scope="module")
def distinct(tmp_path_factory):
    """Return splits of 1, 7, 8, 9 and 21 different images, by their size."""
    splits = {}
    for count in (1, 7, 8, 9, 21):
        folder = tmp_path_factory.mktemp("distinct") / "packed"
        pixels, labels = synthetic.labelled(count, SIZE)
        splits[count] = pixels, synthetic.pack(folder, {"train": (pixels, labels)})
    return {
        n: (pixels, packed.split("train")) for n, (pixels, packed) in splits.items()
    }


def poses(marker):
    """Return every whole-degree rotation on black, with and without a flip."""
    poses = {}
    for angle in range(-30, 31):
        matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, 1)
        rotated = cv2.warpAffine(marker, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        poses[rotated.tobytes()] = (angle, False)
        poses[np.ascontiguousarray(rotated[:, ::-1]).tobytes()] = (angle, True)
    return poses


def epoch_pixels(split, batch_size=8, seed=0, epoch=0):
    batches = record_iter.training_batches(split, batch_size, seed, epoch)
    return np.concatenate([batch.pixels for batch in batches])


def identify(seen, pixels):
    """Return the number of the original of each image."""
    known = {image.tobytes(): number for number, image in enumerate(pixels)}
    return [known[np.ascontiguousarray(image).tobytes()] for image in seen]


def test_training_rotates_by_whole_degrees_up_to_30_on_black_and_flips_half(marked):
    marker, split = marked
    known = poses(marker)
    observed = [known.get(image.tobytes()) for image in epoch_pixels(split)]
    assert None not in observed  # each equals OpenCV's result to the bit
    angles = np.array([angle for angle, _ in observed])
    assert {angles.min(), angles.max()} == {-30, 30}
    counts = np.bincount(angles + 30, minlength=61)
    chi_square = ((counts - 400 / 61) ** 2 / (400 / 61)).sum()
    assert chi_square < 100  # 60 degrees of freedom: the 99.9th percentile
    assert 160 < sum(flip for _, flip in observed) < 240  # 4 standard deviations
    assert abs(np.corrcoef(angles, [flip for _, flip in observed])[0, 1]) < 0.2


def test_the_corners_that_rotation_uncovers_are_black(marked):
    _, split = marked
    pixels = epoch_pixels(split)
    rotated = pixels[[abs(int(p[0, SIZE // 2]) - 77) > 0 for p in pixels]]
    corners = rotated[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners.min(axis=1) == 0).all()
    assert pixels.max() == 255
    assert not (corners == 255).any()


def test_an_image_has_other_poses_in_other_epochs(tmp_path):
    # Every image is a study by itself, so that its labels identify it.
    pixels, labels = synthetic.labelled(64, SIZE)
    packed = synthetic.pack(tmp_path / "p", {"train": (pixels, labels)}, views=1)
    split = packed.split("train")
    variants = {}
    for epoch in range(6):
        for batch in record_iter.training_batches(split, 8, 0, epoch):
            for image, label in zip(batch.pixels, batch.labels):
                variants.setdefault(tuple(label), []).append(image.tobytes())
    shares = [len(set(images)) / len(images) for images in variants.values()]
    assert np.mean(shares) > 0.9


def test_an_epoch_can_be_repeated_by_itself(distinct):
    _, split = distinct[21]
    first = epoch_pixels(split, seed=5, epoch=3)
    epoch_pixels(split, seed=5, epoch=4)
    assert (first == epoch_pixels(split, seed=5, epoch=3)).all()


def test_seed_and_epoch_are_hashed_and_not_added():
    seeds = {
        record_iter.epoch_seed(seed, epoch) for seed in range(9) for epoch in range(9)
    }
    assert len(seeds) == 81
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_training_order_is_a_permutation_that_mixes_study_types(tmp_path):
    pixels, labels = synthetic.labelled(64, 32)
    split = synthetic.pack(tmp_path / "p", {"train": (pixels, labels)}).split("train")
    batches = list(record_iter.training_batches(split, 8, 1, 0))
    rows = np.concatenate([batch.labels for batch in batches])
    expected = sorted((row[0], row[1], row[2]) for row in split.rows())
    assert sorted(map(tuple, rows)) == expected
    assert all(len(set(batch.labels[:, 1])) == 2 for batch in batches)


def test_training_drops_the_incomplete_batch_of_other_images_per_epoch(distinct):
    _, split = distinct[21]
    sizes = [len(b.pixels) for b in record_iter.training_batches(split, 8, 0, 0)]
    assert sizes == [8, 8]
    epochs = set()
    for epoch in range(4):
        batches = record_iter.training_batches(split, 8, 0, epoch)
        seen = {tuple(row) for batch in batches for row in batch.labels}
        epochs.add(frozenset(seen))
    assert len(epochs) > 1


def test_training_on_fewer_images_than_a_batch_uses_all_of_them(distinct):
    _, split = distinct[7]
    (batch,) = record_iter.training_batches(split, 8, 0, 0)
    assert len({image.tobytes() for image in batch.pixels}) == 7


@pytest.mark.parametrize("count", [1, 7, 8, 9, 21])
def test_evaluation_returns_every_record_once_and_in_order(distinct, count):
    pixels, split = distinct[count]
    batches = list(record_iter.evaluation_batches(split, 8))
    seen = np.concatenate([batch.pixels for batch in batches])
    assert identify(seen, pixels) == list(range(count))
    labels = np.concatenate([batch.labels for batch in batches])
    assert [tuple(row[:3]) for row in split.rows()] == [tuple(row) for row in labels]


def test_earlier_batches_do_not_change(distinct):
    pixels, split = distinct[21]
    batches = list(record_iter.evaluation_batches(split, 2))
    assert identify(np.concatenate([b.pixels for b in batches]), pixels) == list(
        range(21)
    )


def test_mxnet_documents_every_option_that_is_used(monkeypatch, distinct):
    used = {}

    def record(**options):
        used.update(options)
        raise StopIteration

    documented = mx.io.ImageRecordIter.__doc__
    monkeypatch.setattr(mx.io, "ImageRecordIter", record)
    with pytest.raises(StopIteration):
        record_iter.training_batches(distinct[8][1], 8, 0, 0)
    # MXNet ignores unknown options without an error.
    assert [name for name in used if f"\n{name} :" not in documented] == []


@pytest.mark.parametrize("kind", ["rec", "idx"])
def test_a_file_removed_after_verification_is_refused(tmp_path, kind):
    packed = synthetic.pack(tmp_path / "p", {"train": synthetic.labelled(4)})
    split = packed.split("train")
    split.path(kind).unlink()
    with pytest.raises(XenonError, match=rf"train\.{kind}: was .* or removed"):
        record_iter.training_batches(split, 2, 0, 1)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_records_and_are_reproducible_to_the_bit(tmp_path, threads):
    pixels, labels = synthetic.labelled(26, SIZE)
    split = synthetic.pack(tmp_path / "p", {"train": (pixels, labels)}, views=1).split(
        "train"
    )

    def epoch(number):
        return list(record_iter.training_batches(split, 4, 0, number, threads))

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert len(first) == record_iter.steps_per_epoch(split, 4, threads=threads)
    rows = [tuple(row) for batch in first for row in batch.labels]
    assert len(set(rows)) == len(rows) >= 24 - 4 * (threads - 1)
    for batch, repeated in zip(first, again):
        assert (batch.pixels == repeated.pixels).all()
        assert (batch.labels == repeated.labels).all()
    assert any((a.labels != b.labels).any() for a, b in zip(first, other))


@pytest.mark.parametrize(
    ("count", "batch_size", "threads", "expected"),
    [(21, 8, 1, 2), (21, 8, 2, 2), (21, 8, 9, 2), (9, 8, 4, 1), (7, 8, 4, 1)],
)
def test_more_threads_than_batches_leave_some_idle(
    distinct, count, batch_size, threads, expected
):
    _, split = distinct[count]
    assert record_iter.steps_per_epoch(split, batch_size, threads=threads) == expected
    batches = list(record_iter.training_batches(split, batch_size, 0, 1, threads))
    assert len(batches) == expected
