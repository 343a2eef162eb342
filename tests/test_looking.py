"""Where trained nets look: at what was drawn, on radiographs they have not seen."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import phantoms  # noqa: E402

from xenon_mx import maps, models, packing, predicting, training  # noqa: E402
from xenon_mx.config import PackConfig, PredictConfig, TrainConfig  # noqa: E402

SIZE = 96  # three cells a side
TIMES_CHANCE = 3  # fixed beforehand
FEWEST = 40  # correctly called positives, for the figure to mean something


def hottest(film, mask, cam, field):
    """Tell whether a map is hottest on the finding, and the finding's share."""
    film = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
    mask = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
    assert mask.shape == film.shape
    over = maps.full_size(np.load(cam), film.shape, SIZE, "stretch", field)
    return mask[np.unravel_index(over.argmax(), over.shape)], mask.mean()


@pytest.mark.slow
def test_the_hottest_point_lies_on_the_finding_more_often_than_chance(tmp_path):
    phantoms.draw_dataset(tmp_path, 400, 150, long_side=192, masks=tmp_path / "masks")
    root, run, cam = (tmp_path / name for name in ("MURA-v1.1", "run", "cam"))
    packing.pack(PackConfig(root, tmp_path / "packed", size=SIZE))
    recipe = {"model": "resnet18_v1b", "no_pretrained": True, "ctx": "cpu()"}
    recipe.update(batch_size=16, lr=1e-3, epochs=3, patience=3)
    training.train(TrainConfig(tmp_path / "packed", run, **recipe))
    asked, table = root / "valid_image_paths.csv", tmp_path / "images.csv"
    options = {"images": table, "cam": cam, "ctx": "cpu()"}
    predicting.predict(PredictConfig((asked,), tmp_path / "out.csv", (run,), **options))
    with open(table, newline="") as stream:
        rows = list(csv.DictReader(stream))
    field = models.field(models.build("resnet18_v1b"), SIZE)
    found = []
    for row in rows:
        film, mask = (
            folder / row["image"] for folder in (tmp_path, tmp_path / "masks")
        )
        if row["label"] == row["prediction"] == "1" and mask.exists():
            each = hottest(film, mask, cam / f"{row['image']}.cam.npy", field)
            found.append(each)
    hits, shares = np.mean(found, axis=0)
    assert len(found) >= FEWEST
    assert hits >= TIMES_CHANCE * shares, (len(found), hits, shares)
