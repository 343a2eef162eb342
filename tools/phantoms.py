"""Draw bone-like radiographs ("phantoms") in the layout of MURA-v1.1.

MURA may not be redistributed, so the demo and the tests draw their own studies: limbs
of MURA's seven study types, normal or with a fracture or an implant. The label shows
almost only in the *shapes* on the radiograph: size, mode, exposure and limb are sampled
independently of the label, and every radiograph has lead markers as bright as an
implant, so that counting bright pixels does not solve the task.

    python tools/phantoms.py data --train-patients 400 --valid-patients 100

Every pixel is determined by ``(seed, path)``: the order of drawing does not matter, and
`draw_path` redraws any image of a data set together with the mask of its finding.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterable, Iterator

import cv2
import numpy as np
from limbs import ANATOMY, Limb, project_limb, sample_limb, sample_view

ROOT = "MURA-v1.1"
ABNORMAL_SHARE = 0.45
RGB_SHARE = 0.25  # some of MURA's files have three equal channels
LETTER_SHARE = 0.7  # of radiographs with a marker of the body's side
# Kind of round marker to the share of its square that it covers on average.
ROUND_MARKERS = {"ball": 0.45, "ring": 0.38}


def _marker(kind: str, side: int) -> np.ndarray:
    """Draw a lead letter, calibration ball or ring, (side, side) uint8."""
    canvas = np.zeros((side, side), np.uint8)
    if kind in "LR":
        origin, font = (side // 5, side - side // 8), cv2.FONT_HERSHEY_SIMPLEX
        thickness = max(1, side // 7)
        cv2.putText(
            canvas, kind, origin, font, side / 26, (255,), thickness, cv2.LINE_AA
        )
    else:
        thickness = -1 if kind == "ball" else max(1, side // 6)
        centre, radius = (side // 2, side // 2), int(0.4 * side)
        cv2.circle(canvas, centre, radius, (255,), thickness, cv2.LINE_AA)
    return canvas


def _draw_markers(
    rng: np.random.RandomState, occupied: np.ndarray, area: float
) -> np.ndarray:
    """Draw a ball or ring, and often a letter, where they cover the least.

    Args:
        rng: Source of randomness.
        occupied: The cost of covering each pixel, (H, W) float32.
        area: Approximate number of pixels of the ball or ring.

    Returns:
        The markers, (H, W) uint8.
    """
    canvas = np.zeros(occupied.shape, np.uint8)
    height, width = occupied.shape
    kind = rng.choice(list(ROUND_MARKERS))
    markers = [(kind, np.sqrt(area / ROUND_MARKERS[kind]))]
    if rng.rand() < LETTER_SHARE:
        size = rng.uniform(0.1, 0.17) * np.sqrt(height * width)
        markers.append(("LR"[rng.randint(2)], size))
    for kind, size in markers:
        side = max(1, int(min(size, 0.45 * height, 0.45 * width)))
        marker = _marker(kind, side)
        room = np.array([height - side, width - side])
        corners = (rng.uniform(0.06, 0.94, (24, 2)) * room).astype(int)
        regions = [np.s_[y : y + side, x : x + side] for y, x in corners]
        best = min(regions, key=lambda r: occupied[r].sum() + canvas[r].sum())
        canvas[best] = np.maximum(canvas[best], marker)
    return canvas


def _collimator(rng: np.random.RandomState, height: int, width: int) -> np.ndarray:
    """Draw the field that the X-rays pass through, (H, W) float32 in [0, 1]."""
    inset = rng.uniform(-0.1, 0.09, (4, 2)).clip(0)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    inside = np.abs(corners - inset) * [width - 1, height - 1]
    field = np.zeros((height, width), np.float32)
    corners = np.round(inside).astype(np.int32)
    cv2.fillConvexPoly(field, corners, (1.0,), cv2.LINE_AA)
    return field


def _expose(rng: np.random.RandomState, attenuation: np.ndarray) -> np.ndarray:
    """Turn attenuation, (H, W) float32 from 0, into a radiograph, (H, W) uint8.

    Contrast, brightness, blur, noise and collimation do not depend on the label.
    """
    height, width = attenuation.shape
    sigma = rng.uniform(0.2, 0.8) * max(height, width) / 256
    image = cv2.GaussianBlur(attenuation, (0, 0), sigma)
    image = rng.uniform(0.65, 1.2) * np.power(image, rng.uniform(0.75, 1.6))
    heel = rng.uniform(-0.15, 0.15)  # heel effect: the beam is weaker at the anode
    image *= np.linspace(1 - heel, 1 + heel, height, dtype=np.float32)[:, None]
    image += rng.uniform(0.0, 0.15)
    image += rng.uniform(0.005, 0.03) * rng.standard_normal(image.shape)
    image *= _collimator(rng, height, width)
    return np.clip(255 * image, 0, 255).astype(np.uint8)


def _spongy_texture(rng: np.random.RandomState, height: int, width: int) -> np.ndarray:
    """Sample the texture of spongy bone, (H, W) float32 around 1."""
    coarse = rng.normal(1.0, 0.08, (height // 3 + 1, width // 3 + 1))
    return cv2.resize(coarse.astype(np.float32), (width, height))


def _soft_tissue(bones: np.ndarray, thickness: float) -> np.ndarray:
    """Draw `thickness` px of soft tissue around all bones, (H, W) float32 in [0, 1]."""
    air = (bones < 0.05).astype(np.uint8)
    distance = np.divide(cv2.distanceTransform(air, cv2.DIST_L2, 5), thickness)
    tissue = np.sqrt(np.clip(1.2 - distance, 0, 1))
    return cv2.GaussianBlur(tissue, (0, 0), 0.1 * thickness)


def expose_limb(
    rng: np.random.RandomState, limb: Limb, long_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one radiograph of a limb.

    Args:
        rng: Source of everything that differs between the views of a study.
        limb: The limb.
        long_side: Longer side of the radiograph, px.

    Returns:
        The radiograph, (H, W) uint8, and the mask of the finding, (H, W) bool.
    """
    view = sample_view(rng, limb, long_side)
    projection = project_limb(limb, view)
    bones = np.minimum(projection.bones, 1.2)  # overlapping bones stay below lead
    # Normal or not, markers stay away from the site.
    x, y = view.pixels(limb.site)
    radius = round(3 * limb.width * view.scale)
    occupied = bones.copy()
    cv2.circle(occupied, (round(x), round(y)), radius, (9.0,), -1)
    lead = rng.uniform(0.002, 0.03) * bones.size + projection.lead
    lead = max(lead, 0.002 * bones.size)
    metal = np.maximum(projection.metal, _draw_markers(rng, occupied, lead))
    tissue = _soft_tissue(bones, ANATOMY[limb.study_type].soft_tissue * view.scale)
    texture = _spongy_texture(rng, view.height, view.width)
    attenuation = 0.25 * tissue + 0.5 * bones * texture
    attenuation = np.maximum(attenuation, rng.uniform(0.9, 1.1) / 255 * metal)
    return _expose(rng, attenuation.astype(np.float32)), projection.mask


def draw_radiograph(
    rng: np.random.RandomState, study_type: str, abnormal: bool, long_side: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a single radiograph that belongs to no study.

    Args:
        rng: Source of randomness.
        study_type: Key of `ANATOMY`, such as "XR_WRIST".
        abnormal: Whether it shows a fracture or an implant.
        long_side: Longer side of the radiograph, px.

    Returns:
        The radiograph, (H, W) uint8, and the mask of the finding, (H, W) bool, all
        False if normal.
    """
    return expose_limb(rng, sample_limb(rng, study_type, abnormal), long_side)


def _rng(seed: int, name: str) -> np.random.RandomState:
    """Return a random generator per name; RandomState's stream never changes."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4"))


def draw_path(
    path: str, seed: int = 0, long_side: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the image that `draw_dataset` writes to a path, and its mask.

    Args:
        path: As in the CSV files, such as
            "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png".
        seed: Seed of the data set.
        long_side: Longer side of the data set's radiographs, px.

    Returns:
        As `draw_radiograph`. All views of a study show the same limb.
    """
    study = path.rsplit("/", 1)[0]
    study_type, abnormal = study.split("/")[2], study.endswith("_positive")
    limb = sample_limb(_rng(seed, study), study_type, abnormal)
    return expose_limb(_rng(seed, path), limb, long_side)


def _studies(split: str, patients: range, seed: int) -> Iterator[tuple[str, int, int]]:
    """Yield (directory with trailing slash, label, views) for each study."""
    for patient in patients:
        name = f"patient{patient:05d}"
        rng = _rng(seed, name)
        usual = rng.choice(list(ANATOMY))
        counts: dict[str, int] = {}
        for _ in range(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05])):
            study_type = usual if rng.rand() < 0.7 else rng.choice(list(ANATOMY))
            counts[study_type] = counts.get(study_type, 0) + 1
            label = int(rng.rand() < ABNORMAL_SHARE)
            study = f"study{counts[study_type]}_{'positive' if label else 'negative'}"
            views = rng.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.3, 0.1])
            yield f"{ROOT}/{split}/{study_type}/{name}/{study}/", label, int(views)


def _write_tables(out: Path, split: str, patients: range, seed: int) -> list[str]:
    """Write the two CSV files of a split; return the paths of its images."""
    # Grouped by study type, as in MURA: the first rows do not represent the rest.
    order = list(ANATOMY)
    studies = sorted(
        _studies(split, patients, seed),
        key=lambda study: order.index(study[0].split("/")[2]),
    )
    paths = [
        f"{study}image{view}.png"
        for study, _, views in studies
        for view in range(1, views + 1)
    ]
    (out / ROOT).mkdir(parents=True, exist_ok=True)
    _write_csv(out / ROOT / f"{split}_image_paths.csv", [(path,) for path in paths])
    labels = [(study, label) for study, label, _ in studies]
    _write_csv(out / ROOT / f"{split}_labeled_studies.csv", labels)
    return paths


def _write_csv(path: Path, rows: Iterable[tuple]) -> None:
    """Write rows as MURA's CSV files: no header, Unix line ends."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write an 8-bit PNG and its folders; cv2.imwrite fails without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    success, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not success:
        raise OSError(f"cannot encode {path}")
    path.write_bytes(data.tobytes())


def draw_dataset(
    out: Path,
    train_patients: int = 400,
    valid_patients: int = 100,
    seed: int = 0,
    long_side: int = 512,
    masks: Path | None = None,
) -> int:
    """Draw a data set in MURA's layout.

    Args:
        out: Folder that will hold MURA-v1.1.
        train_patients: Number of patients in the training set.
        valid_patients: Number of other patients, in the validation set.
        seed: The same seed and arguments give the same bytes.
        long_side: Longer side of the radiographs, px; MURA's is 512.
        masks: Folder for the masks (PNG, 0 or 255) of the abnormal images, under
            the same relative paths; none are written by default.

    Returns:
        The number of images.
    """
    last, total = train_patients + 1, train_patients + valid_patients + 1
    paths = _write_tables(out, "train", range(1, last), seed)
    paths += _write_tables(out, "valid", range(last, total), seed)

    def draw(path: str) -> None:
        image, mask = draw_path(path, seed, long_side)
        if _rng(seed, "mode of " + path).rand() < RGB_SHARE:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        _write_png(out / path, image)
        if masks is not None and mask.any():
            _write_png(masks / path, np.uint8(255) * mask)

    with ThreadPoolExecutor() as pool:
        return sum(1 for _ in pool.map(draw, paths))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder that will hold MURA-v1.1")
    parser.add_argument("--train-patients", type=int, default=400, metavar="N")
    parser.add_argument("--valid-patients", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--long-side", type=int, default=512, metavar="PX")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="write masks here")
    options = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    count = draw_dataset(**options)
    logging.info("%d images in %s", count, options["out"] / ROOT)


if __name__ == "__main__":
    main()
