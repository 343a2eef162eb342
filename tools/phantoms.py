"""Draw bone-like radiographs ("phantoms") in the layout of MURA-v1.1.

MURA may not be redistributed, so the demo and the tests draw their own studies:
seven kinds of limb, normal or with a fracture or an implant. Whether a study is
abnormal shows in the *shape* of what is on the film and in little else: size, mode,
exposure and limb are drawn without looking at the label, and every film carries lead
markers as bright as an implant, so counting bright pixels does not solve the task.

    python tools/phantoms.py data --train-patients 400 --valid-patients 100

Every pixel follows from ``(seed, path)``: the order of drawing does not matter, and
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
from limbs import ANATOMY, Limb, cast_shadow, choose_view, grow_limb

ROOT = "MURA-v1.1"
ABNORMAL_SHARE = 0.45
RGB_SHARE = 0.25  # some of MURA's files have three equal channels
LETTER_SHARE = 0.7  # of films that say which side of the body they show
# Kind of round marker: the share of its square that it covers on an average film.
ROUND_MARKERS = {"ball": 0.45, "ring": 0.38}


def _marker(kind: str, side: int) -> np.ndarray:
    """A lead letter, calibration ball or ring, (side, side) uint8 in 0..255."""
    canvas = np.zeros((side, side), np.uint8)
    if kind in "LR":
        at, font = (side // 5, side - side // 8), cv2.FONT_HERSHEY_SIMPLEX
        thick = max(1, side // 7)
        cv2.putText(canvas, kind, at, font, side / 26, (255,), thick, cv2.LINE_AA)
    else:
        thick = -1 if kind == "ball" else max(1, side // 6)
        middle, radius = (side // 2, side // 2), int(0.4 * side)
        cv2.circle(canvas, middle, radius, (255,), thick, cv2.LINE_AA)
    return canvas


def _put_markers(
    rng: np.random.RandomState, bones: np.ndarray, area: float
) -> np.ndarray:
    """Lay a ball or ring, and often a letter, where they cover the least bone.

    Args:
        rng: Source of randomness.
        bones: What not to cover, (H, W) float32.
        area: Pixels of metal that the ball or ring should have, about.

    Returns:
        The markers, (H, W) uint8 in 0..255.
    """
    canvas = np.zeros(bones.shape, np.uint8)
    height, width = bones.shape
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
        spots = [np.s_[y : y + side, x : x + side] for y, x in corners]
        best = min(spots, key=lambda spot: bones[spot].sum() + canvas[spot].sum())
        canvas[best] = np.maximum(canvas[best], marker)
    return canvas


def _collimator(rng: np.random.RandomState, height: int, width: int) -> np.ndarray:
    """The window the X-rays pass through, (H, W) float32 in [0, 1]."""
    inset = rng.uniform(-0.1, 0.09, (4, 2)).clip(0)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    inside = np.abs(corners - inset) * [width - 1, height - 1]
    window = np.zeros((height, width), np.float32)
    corners = np.round(inside).astype(np.int32)
    cv2.fillConvexPoly(window, corners, (1.0,), cv2.LINE_AA)
    return window


def _expose(rng: np.random.RandomState, absorbed: np.ndarray) -> np.ndarray:
    """Turn attenuation, (H, W) float32 from 0, into a film, (H, W) uint8.

    Contrast, brightness, blur, noise and collimation are drawn without looking at
    the label.
    """
    height, width = absorbed.shape
    sigma = rng.uniform(0.2, 0.8) * max(height, width) / 256
    film = cv2.GaussianBlur(absorbed, (0, 0), sigma)
    film = rng.uniform(0.65, 1.2) * np.power(film, rng.uniform(0.75, 1.6))
    heel = rng.uniform(-0.15, 0.15)  # the beam is weaker towards the anode
    film *= np.linspace(1 - heel, 1 + heel, height, dtype=np.float32)[:, None]
    film += rng.uniform(0.0, 0.15)
    film += rng.uniform(0.005, 0.03) * rng.standard_normal(film.shape)
    film *= _collimator(rng, height, width)
    return np.clip(255 * film, 0, 255).astype(np.uint8)


def _grain(rng: np.random.RandomState, height: int, width: int) -> np.ndarray:
    """The texture of spongy bone, (H, W) float32 around 1."""
    coarse = rng.normal(1.0, 0.08, (height // 3 + 1, width // 3 + 1))
    return cv2.resize(coarse.astype(np.float32), (width, height))


def _flesh(bones: np.ndarray, thickness: float) -> np.ndarray:
    """Soft tissue around all bones, `thickness` pixels, (H, W) float32 in [0, 1]."""
    air = (bones < 0.05).astype(np.uint8)
    distance = cv2.distanceTransform(air, cv2.DIST_L2, 5) / thickness
    flesh = np.sqrt(np.clip(1.2 - distance, 0, 1))
    return cv2.GaussianBlur(flesh, (0, 0), 0.1 * thickness)


def expose_limb(
    rng: np.random.RandomState, limb: Limb, long_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take one radiograph of a limb.

    Args:
        rng: Source of everything that differs between the views of a study.
        limb: The limb.
        long_side: Longer side of the film in pixels.

    Returns:
        The film, (H, W) uint8, and the mask of the finding, (H, W) bool.
    """
    view = choose_view(rng, limb, long_side)
    shadow = cast_shadow(limb, view)
    bones = np.minimum(shadow.bones, 1.2)  # where bones overlap, still less than lead
    # Normal or not, markers keep clear of the site.
    x, y = view.pixels(limb.site)
    keep_clear = round(3 * limb.width * view.scale)
    occupied = bones.copy()
    cv2.circle(occupied, (round(x), round(y)), keep_clear, (9.0,), -1)
    lead = rng.uniform(0.002, 0.03) * bones.size + shadow.lead
    lead = max(lead, 0.002 * bones.size)
    metal = np.maximum(shadow.metal, _put_markers(rng, occupied, lead))
    flesh = _flesh(bones, ANATOMY[limb.study_type].flesh * view.scale)
    absorbed = 0.25 * flesh + 0.5 * bones * _grain(rng, view.height, view.width)
    absorbed = np.maximum(absorbed, rng.uniform(0.9, 1.1) / 255 * metal)
    return _expose(rng, absorbed.astype(np.float32)), shadow.mask


def draw_radiograph(
    rng: np.random.RandomState, study_type: str, abnormal: bool, long_side: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a radiograph of its own, of no study in particular.

    Args:
        rng: Source of randomness.
        study_type: Key of `ANATOMY`, such as "XR_WRIST".
        abnormal: Whether it shows a fracture or an implant.
        long_side: Longer side of the film in pixels.

    Returns:
        The film, (H, W) uint8, and the mask of the finding, (H, W) bool, all False
        when normal.
    """
    return expose_limb(rng, grow_limb(rng, study_type, abnormal), long_side)


def _rng(seed: int, name: str) -> np.random.RandomState:
    """A stream of its own for each name; NumPy froze RandomState's for good."""
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
        long_side: Longer side of the films of the data set in pixels.

    Returns:
        As `draw_radiograph`. All views of a study show the same limb.
    """
    study = path.rsplit("/", 1)[0]
    study_type, abnormal = study.split("/")[2], study.endswith("_positive")
    limb = grow_limb(_rng(seed, study), study_type, abnormal)
    return expose_limb(_rng(seed, path), limb, long_side)


def _studies(split: str, patients: range, seed: int) -> Iterator[tuple[str, int, int]]:
    """Yield (directory with trailing slash, label, views) for each study."""
    for patient in patients:
        name = f"patient{patient:05d}"
        rng = _rng(seed, name)
        usual = rng.choice(list(ANATOMY))
        seen: dict[str, int] = {}
        for _ in range(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05])):
            part = usual if rng.rand() < 0.7 else rng.choice(list(ANATOMY))
            seen[part] = seen.get(part, 0) + 1
            label = int(rng.rand() < ABNORMAL_SHARE)
            study = f"study{seen[part]}_{'positive' if label else 'negative'}"
            views = rng.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.3, 0.1])
            yield f"{ROOT}/{split}/{part}/{name}/{study}/", label, int(views)


def _write_tables(out: Path, split: str, patients: range, seed: int) -> list[str]:
    """Write the two CSV files of a split; return the paths of its images."""
    # Grouped by body part, as in MURA: the first rows are no sample of the rest.
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
    """Write an 8-bit PNG and its folders; OpenCV itself fails without a word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
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
        long_side: Longer side of the films in pixels; MURA's is 512.
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
