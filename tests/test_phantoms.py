"""Phantoms: MURA's layout, reproducible bytes, and no shortcut to the label."""

from __future__ import annotations

import cv2
import numpy as np
import phantoms
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xenon_mx.data import datasets


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms")
    phantoms.draw_dataset(out, 220, 30, seed=0, long_side=160, masks=out / "masks")
    return out


def test_the_layout_is_that_of_mura(dataset):
    splits = datasets.read_dataset(dataset / "MURA-v1.1").splits
    assert list(splits) == ["train", "valid"]
    patients = [{image.patient for image in images} for images in splits.values()]
    assert not patients[0] & patients[1]
    all_images = [image for images in splits.values() for image in images]
    assert all(image.file.is_file() for image in all_images)
    assert len({image.study_type for image in all_images}) >= 4
    views = np.unique([image.study for image in all_images], return_counts=True)[1]
    assert set(views) == {1, 2, 3, 4}
    studies = {(image.patient, image.study) for image in all_images}
    assert len(studies) > len({patient for patient, _ in studies})
    share = np.mean([image.label for image in all_images])
    assert 0.35 < share < 0.55


def test_sizes_and_modes_are_mixed_as_in_mura(dataset):
    files = sorted(dataset.glob("MURA-v1.1/train/**/*.png"))[:150]
    images = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    assert {image.ndim for image in images} == {2, 3}
    assert all(image.dtype == np.uint8 for image in images)
    assert {max(image.shape[:2]) for image in images} == {160}
    assert min(min(image.shape[:2]) / 160 for image in images) < 0.45
    colour = [image for image in images if image.ndim == 3]
    assert all((image == image[..., :1]).all() for image in colour)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    def digest(name, seed):
        phantoms.draw_dataset(tmp_path / name, 4, 2, seed=seed, long_side=64)
        paths = sorted((tmp_path / name).rglob("*"))
        files = [file for file in paths if file.is_file()]
        return [(f.relative_to(tmp_path / name), f.read_bytes()) for f in files]

    assert digest("a", 1) == digest("b", 1) != digest("c", 2)


def test_the_mask_is_there_for_the_abnormal_and_for_nothing_else(dataset):
    images = datasets.read_dataset(dataset / "MURA-v1.1").splits["train"]
    for image in images[:80]:
        mask = dataset / "masks" / image.path
        assert mask.is_file() == bool(image.label)
        if image.label:
            shape = cv2.imread(str(image.file), 0).shape
            assert cv2.imread(str(mask), 0).shape == shape


def statistics(file):
    """Return what a net could use without recognizing shapes."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    gray = image if image.ndim == 2 else image[..., 0]
    percentiles = np.percentile(gray, [1, 5, 25, 50, 75, 95, 99])
    ends = [gray.min(), gray.max(), (gray > 250).mean(), (gray < 5).mean()]
    height, width = gray.shape
    shape = [height, width, width / height, image.ndim]
    return [gray.mean(), gray.std(), *percentiles, *ends, *shape]


def test_global_pixel_statistics_do_not_tell_the_label(dataset):
    """Of one view per study and the study type, cross-validated."""
    images = datasets.read_dataset(dataset / "MURA-v1.1").splits["train"]
    first = list({image.study: image for image in images}.values())
    features = np.array([statistics(image.file) for image in first])
    names = sorted({image.study_type for image in first})
    types = np.array([[image.study_type == name for name in names] for image in first])
    labels = np.array([image.label for image in first])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probabilities = cross_val_predict(
        model, np.hstack([features, types]), labels, cv=5, method="predict_proba"
    )
    assert roc_auc_score(labels, probabilities[:, 1]) < 0.65
