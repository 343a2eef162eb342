"""Limbs for `phantoms`: bones, a fracture or an implant, and their projection.

Lengths are in *limb units* (half the long side of a radiograph; x to the right, y down,
origin at the centre) until a `View` maps them to pixels.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple

import cv2
import numpy as np

FRACTURE_SHARE = 0.5  # of abnormal limbs; the others have an implant
IMPLANTS = ("plate", "nail", "wires")


class Bone(NamedTuple):
    """A bone: its two ends, its half width, and the widening towards the ends."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    flare: float = 0.0


class Anatomy(NamedTuple):
    """The anatomy that a study type shows.

    A ray is a chain of bones that moves as one when its first bone breaks. The rays
    from index `fixed` on never have a finding. `bend` (degrees) is the largest flexion
    about the origin of all rays except the first, `soft_tissue` is the thickness of the
    soft tissue, and `aspect` the range of short side / long side.
    """

    aspect: tuple[float, float]
    soft_tissue: float
    bend: float
    fixed: int
    rays: tuple[tuple[Bone, ...], ...]


def _round(*rows: tuple[float, float, float, float, int]) -> tuple[Bone, ...]:
    """Return rows (x from, x to, y, radius, count) of small round bones."""
    return tuple(
        Bone(x, y - 0.9 * r, x, y + 0.9 * r, r)
        for x0, x1, y, r, count in rows
        for x in np.linspace(x0, x1, count)
    )


def _digit(x: float, lean: float, reach: float = 1.0) -> tuple[Bone, ...]:
    """Return a metacarpal (which can break) and its phalanges, inclined by `lean`."""
    ys = np.array([0.4, -0.22, -0.26, -0.6, -0.64, -0.86, -0.9, -1.05])
    xs = x + lean * (0.4 - ys)
    ends = zip(xs[::2], 0.4 + reach * (ys[::2] - 0.4), xs[1::2])
    tips = 0.4 + reach * (ys[1::2] - 0.4)
    widths = (0.06, 0.053, 0.045, 0.038)
    return tuple(Bone(*end, y, w, 0.45) for end, y, w in zip(ends, tips, widths))


ANATOMY = {
    "XR_WRIST": Anatomy((0.5, 0.85), 0.16, 0, 2, (
        (Bone(0.14, 1.6, 0.12, 0.14, 0.12, 0.9),
         *_round((-0.2, 0.26, 0.02, 0.105, 3), (-0.25, 0.27, -0.19, 0.09, 4)),
         *(Bone(x, -0.31, 1.6 * x, -1.2, 0.065, 0.5)
           for x in (-0.25, -0.09, 0.08, 0.25))),
        (Bone(-0.2, 1.6, -0.21, 0.2, 0.085, 0.5),),
    )),
    "XR_FOREARM": Anatomy((0.35, 0.6), 0.14, 0, 1, (
        (Bone(0.11, 0.8, 0.12, -0.74, 0.075, 0.7),
         Bone(-0.13, 0.76, -0.12, -0.8, 0.075, 0.6)),
        (Bone(0.0, -1.9, 0.0, -0.86, 0.12, 0.9),
         *_round((-0.14, 0.18, 0.94, 0.09, 3))),
    )),
    "XR_HAND": Anatomy((0.65, 0.95), 0.1, 0, 4, (
        _digit(-0.21, -0.2, 0.86),
        _digit(-0.07, -0.07, 0.96),
        _digit(0.07, 0.05),
        _digit(0.21, 0.18, 0.94),
        (Bone(0.31, 0.5, 0.58, 0.08, 0.06, 0.4),
         Bone(0.61, 0.04, 0.74, -0.2, 0.05, 0.4)),
        _round((-0.23, 0.23, 0.52, 0.085, 4), (-0.18, 0.18, 0.7, 0.09, 3)),
        (Bone(0.11, 0.83, 0.13, 1.9, 0.11, 0.9),
         Bone(-0.18, 0.86, -0.18, 1.9, 0.08, 0.6)),
    )),
    "XR_HUMERUS": Anatomy((0.35, 0.65), 0.22, 0, 1, (
        (Bone(0.0, -0.66, 0.0, 1.2, 0.1, 0.8), *_round((0.05, 0.05, -0.58, 0.18, 1))),
        (Bone(0.33, -0.75, 0.36, 0.0, 0.05, 0.8),),
        (Bone(0.05, -0.93, 0.9, -0.95, 0.06, 0.2),),
    )),
    "XR_SHOULDER": Anatomy((0.75, 1.0), 0.3, 0, 1, (
        (Bone(-0.3, -0.3, -0.4, 1.5, 0.12, 0.6),
         *_round((-0.24, -0.24, -0.25, 0.2, 1))),
        (Bone(-0.4, -0.58, 1.1, -0.72, 0.055, 0.5),),
        (Bone(0.08, -0.38, 0.3, 0.62, 0.17, -0.35),),
        tuple(Bone(0.42, y, 1.5, y + 0.35, 0.035) for y in (-0.4, -0.1, 0.2, 0.5)),
    )),
    "XR_ELBOW": Anatomy((0.6, 0.9), 0.2, 50, 2, (
        (Bone(0.0, -0.07, 0.0, -1.6, 0.12, 1.1),),
        (Bone(0.13, 0.06, 0.16, 1.6, 0.085, 0.6),
         Bone(-0.11, 0.06, -0.14, 1.6, 0.09, 0.7)),
    )),
    "XR_FINGER": Anatomy((89 / 512, 0.45), 0.08, 0, 1, (
        (Bone(0.0, 0.6, 0.0, -0.12, 0.085, 0.7),
         Bone(0.0, -0.16, 0.0, -0.56, 0.075, 0.6),
         Bone(0.0, -0.6, 0.0, -0.86, 0.06, 0.6)),
        (Bone(0.0, 1.5, 0.0, 0.64, 0.09, 0.7),),
    )),
}  # fmt: skip


class Limb(NamedTuple):
    """One limb of one patient, the same in every view of a study.

    Attributes:
        study_type: Key of `ANATOMY`.
        rays: For each ray, the outlines of its bones, (points, 2) float64 each.
        ray: Index of the ray that has the finding, or would have it.
        site: Centre of the finding, (2,) float64.
        axis: Half the length of that bone along its axis, (2,) float64.
        width: Half the width of that bone at `site`.
        finding: "fracture", "implant", or "" in a normal limb.
        implant: One of `IMPLANTS`: the one that it has or would have.
        dice: (48,) floats in [0, 1) that determine the details of the finding.
    """

    study_type: str
    rays: list[list[np.ndarray]]
    ray: int
    site: np.ndarray
    axis: np.ndarray
    width: float
    finding: str
    implant: str
    dice: np.ndarray


def sample_limb(rng: np.random.RandomState, study_type: str, abnormal: bool) -> Limb:
    """Sample the limb of one study.

    The finding is sampled for normal limbs, too, and then left out, so that the label
    changes nothing else: neither the anatomy nor the centre of the radiograph.
    """
    anatomy = ANATOMY[study_type]
    size, thickness = rng.uniform(0.92, 1.1), rng.uniform(0.92, 1.12)
    flexion = _rotation(rng.uniform(0, anatomy.bend))
    turns = [size * np.eye(2)] + [size * flexion] * (len(anatomy.rays) - 1)
    rays = [
        [_outline(rng, bone, thickness) @ turn.T for bone in ray]
        for ray, turn in zip(anatomy.rays, turns)
    ]
    chosen = rng.randint(anatomy.fixed)
    bone = anatomy.rays[chosen][0]
    start, end = np.array(bone[:4]).reshape(2, 2) @ turns[chosen].T
    # A shaft extends beyond the image: the finding is in its visible part.
    start, end = start.clip(-0.9, 0.9), end.clip(-0.9, 0.9)
    finding = "fracture" if rng.rand() < FRACTURE_SHARE else "implant"
    return Limb(
        study_type=study_type,
        rays=rays,
        ray=chosen,
        site=start + rng.uniform(0.4, 0.6) * (end - start),
        axis=(end - start) / 2,
        width=bone.width * size * thickness,
        finding=finding if abnormal else "",
        implant=str(rng.choice(IMPLANTS)),
        dice=rng.rand(48),
    )


def _rotation(degrees: float) -> np.ndarray:
    """Return a rotation matrix, (2, 2) float64."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _outline(rng: np.random.RandomState, bone: Bone, thickness: float) -> np.ndarray:
    """Sample the outline of a bone in limb units, (48, 2) float64."""
    ends = np.array(bone[:4]).reshape(2, 2) + rng.uniform(-0.012, 0.012, (2, 2))
    chord = ends[1] - ends[0]
    length = np.hypot(*chord)
    normal = np.array([-chord[1], chord[0]]) / length
    width = bone.width * thickness * rng.uniform(0.93, 1.07)
    u = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 24))  # dense at the round ends
    cap = np.sqrt(1 - np.abs(u) ** max(2.0, length / width))
    flare = 1 + bone.flare * np.abs(u) ** 3
    bow = rng.uniform(-0.03, 0.03) * length * (1 - u**2)
    middle = ends[0] + np.outer((u + 1) / 2, chord) + np.outer(bow, normal)
    side = np.outer(width * flare * cap, normal)
    return np.concatenate([middle + side, (middle - side)[::-1]])


class View(NamedTuple):
    """The mapping from limb units to pixels: pixel = matrix @ point + offset."""

    matrix: np.ndarray
    offset: np.ndarray
    height: int
    width: int

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) limb units to (..., 2) pixels."""
        return points @ self.matrix.T + self.offset

    @property
    def scale(self) -> float:
        """Return the pixels per limb unit along the bones."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))


def sample_view(rng: np.random.RandomState, limb: Limb, long_side: int) -> View:
    """Sample format, side, rotation and projection of one radiograph."""
    aspect = rng.uniform(*ANATOMY[limb.study_type].aspect)
    size = np.array([max(1, round(long_side * aspect)), long_side])
    # A narrow image follows the limb; a wide one leaves room for rotation.
    turn = rng.uniform(-25, 25) * aspect
    squeeze = rng.uniform(0.8, 1.0) * rng.choice([-1, 1])
    if rng.rand() < 0.2:
        turn, size = turn + rng.choice([-90, 90]), size[::-1]
    zoom = long_side / 2 * rng.uniform(1.05, 1.3)
    matrix = zoom * _rotation(turn) @ np.diag([squeeze, 1.0])
    site = matrix @ limb.site
    # Collimation must not hide the site.
    centred = site.clip(-0.25 * size, 0.25 * size) - site
    offset = size / 2 + centred + rng.uniform(-0.04, 0.04, 2) * size
    return View(matrix, offset, int(size[1]), int(size[0]))


def _fill(view: View, outlines: Iterable[np.ndarray]) -> np.ndarray:
    """Draw filled outlines given in limb units, (H, W) uint8 of 0 and 255."""
    canvas = np.zeros((view.height, view.width), np.uint8)
    for outline in outlines:
        fixed_point = np.round(view.pixels(outline) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [fixed_point], (255,), cv2.LINE_8, 4)
    return canvas


def _bone(view: View, outlines: list[np.ndarray]) -> np.ndarray:
    """Draw a ray's attenuation, (H, W) float32 in [0, 1]: bright cortex, dim marrow."""
    filled = _fill(view, outlines)
    depth: np.ndarray = cv2.distanceTransform(filled, cv2.DIST_L2, 5)
    depth /= max(1.0, 0.17 * depth.max())  # in thicknesses of the cortex
    return 0.4 * (1 - np.exp(-depth)) + 0.55 * depth * np.exp(1 - depth)


def _break(bone: np.ndarray, limb: Limb, view: View) -> np.ndarray:
    """Break a ray along a jagged line and displace the part beyond the site.

    Args:
        bone: Attenuation of the ray, (H, W) float32.
        limb: Limb with the site and the dice of the fracture.
        view: The mapping to pixels.

    Returns:
        Attenuation of the broken ray, (H, W) float32.
    """
    angle, shift, gap, slant, jag, side = limb.dice[:6]
    side = 1 if side < 0.5 else -1
    x, y = view.pixels(limb.site)
    axis = view.matrix @ limb.axis
    axis /= np.hypot(*axis)
    normal = np.array([-axis[1], axis[0]])
    radius = limb.width * view.scale
    down, right = np.ogrid[: view.height, : view.width]
    along = (right - x) * axis[0] + (down - y) * axis[1]
    across = (right - x) * normal[0] + (down - y) * normal[1]
    teeth = 0.15 * radius * np.sin(across * (2 + 3 * jag) / radius)
    beyond = along + (slant - 0.5) * across + teeth
    far = np.clip(beyond + 0.5, 0, 1).astype(np.float32)
    degrees = side * (10 + 20 * angle)
    turn: np.ndarray = cv2.getRotationMatrix2D((x, y), degrees, 1.0)
    # The ends gape, or the muscles have pulled them past each other.
    apart = 0.6 + gap if gap < 0.3 else -0.8 - 0.9 * gap
    turn[:, 2] += radius * (apart * axis + side * (0.8 + 0.6 * shift) * normal)
    moved = cv2.warpAffine(bone * far, turn, (view.width, view.height))
    return bone * (1 - far) + moved + _splinters(limb, view)


def _splinters(limb: Limb, view: View) -> np.ndarray:
    """Draw five chips of cortex around a fracture, (H, W) float32 in [0, 1]."""
    centre, corners = np.split(limb.dice[8:].reshape(5, 4, 2) - 0.5, [1], axis=1)
    chips = limb.site + limb.width * (2.6 * centre + 1.5 * corners)
    return _fill(view, chips) / np.float32(255)


def _strokes(limb: Limb) -> np.ndarray:
    """Return the bars of an implant.

    Returns:
        (strokes, 5) float64: start, end and half thickness of bars, in half widths
        of the bone, along and across it, from the site.
    """
    thickness, lean, number = limb.dice[:3]
    reach = min(4.5, 0.85 * np.hypot(*limb.axis) / limb.width)
    if limb.implant == "nail":
        return np.array([[-reach, 0, reach, 0, 0.3 + 0.1 * thickness]])
    if limb.implant == "wires":
        tilt = 0.5 + 0.4 * lean
        return np.array(
            [[-reach, -tilt, reach, tilt, 0.19], [-reach, tilt, reach, -tilt, 0.19]]
        )
    edge = 0.75 if lean < 0.5 else -0.75
    plate = [-reach, edge, reach, edge, 0.25]
    screws = np.linspace(-0.85 * reach, 0.85 * reach, 4 + int(3 * number))
    return np.array([plate] + [[u, edge, u, -1.2 * edge, 0.14] for u in screws])


def _implant(limb: Limb, view: View) -> np.ndarray:
    """Draw the implant of a limb, (H, W) uint8."""
    canvas = np.zeros((view.height, view.width), np.uint8)
    along = limb.axis / np.hypot(*limb.axis) * limb.width
    frame = np.array([along, [-along[1], along[0]]])
    for *ends, half in _strokes(limb):
        points = view.pixels(limb.site + np.array(ends).reshape(2, 2) @ frame)
        start, end = np.round(16 * points).astype(int).tolist()
        thick = max(1, round(2 * half * limb.width * view.scale))
        cv2.line(canvas, start, end, (255,), thick, cv2.LINE_AA, 4)
    return canvas


class Projection(NamedTuple):
    """The projection of a limb and its finding.

    Attributes:
        bones: Attenuation of all bones, (H, W) float32.
        metal: The implant, (H, W) uint8.
        mask: Where the finding is, (H, W) bool.
        lead: Pixels of metal that the markers must add: as many as an implant would
            have, minus those that the finding itself brightens.
    """

    bones: np.ndarray
    metal: np.ndarray
    mask: np.ndarray
    lead: float


def project_limb(limb: Limb, view: View) -> Projection:
    """Draw the bones of a limb with the finding."""
    rays = [_bone(view, ray) for ray in limb.rays]
    bones, metal = np.sum(rays, axis=0), _implant(limb, view)
    lead = metal.sum() / 255
    if limb.finding == "implant":
        mask = cv2.dilate(metal, np.ones((3, 3), np.uint8))
        return Projection(bones, metal, np.greater(mask, 0), 0.0)
    mask, none = np.zeros_like(metal), np.zeros_like(metal)
    if limb.finding == "fracture":
        intact = bones
        bones = intact + _break(rays[limb.ray], limb, view) - rays[limb.ray]
        # Splinters and overlapping ends are as bright as metal.
        lead -= np.count_nonzero(bones > 0.9) - np.count_nonzero(intact > 0.9)
        x, y = view.pixels(limb.site)
        radius = round(1.5 * limb.width * view.scale)
        cv2.circle(mask, (round(x), round(y)), radius, (1,), -1)
    return Projection(bones, none, np.greater(mask, 0), lead)
