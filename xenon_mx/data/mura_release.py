"""MURA-v1.1 by its numbers: whether what was packed is all of it.

Owns the counts of the release, and the comparison with those of a packed folder; must
not know files or images.

Names say little: a demo, a part and a hospital's own studies may all lie in a folder
called MURA-v1.1. So a split is taken for MURA's if it has all of its seven study types
and nearly as many studies of each. The test set of the paper (207 studies) was never
published, and is not a part of the release.
"""

from __future__ import annotations

from typing import Iterator, Mapping, NamedTuple

from xenon_mx.data import mura
from xenon_mx.data.pack_meta import PackMeta
from xenon_mx.runtime import text

_NAME = "MURA-v1.1"
_NEAR = (
    0.1  # of a study type's studies, that a split of MURA may differ by; chosen here
)


class Amount(NamedTuple):
    """How much there is of one study type in one split."""

    normal_studies: int
    abnormal_studies: int
    normal_images: int
    abnormal_images: int

    @property
    def studies(self) -> int:
        """Return the number of studies."""
        return self.normal_studies + self.abnormal_studies


Split = Mapping[str, Amount]

# Studies: table 1 of the paper (arXiv 1712.06957v4). Images: the README of
# github.com/pengshiqi/MURA, whose sums are the lines of MURA's lists of images: 36,808
# and 3,197.
RELEASE: Mapping[str, Split] = {
    "train": {
        "XR_ELBOW": Amount(1094, 660, 2925, 2006),
        "XR_FINGER": Amount(1280, 655, 3138, 1968),
        "XR_FOREARM": Amount(590, 287, 1164, 661),
        "XR_HAND": Amount(1497, 521, 4059, 1484),
        "XR_HUMERUS": Amount(321, 271, 673, 599),
        "XR_SHOULDER": Amount(1364, 1457, 4211, 4168),
        "XR_WRIST": Amount(2134, 1326, 5765, 3987),
    },
    "valid": {
        "XR_ELBOW": Amount(92, 66, 235, 230),
        "XR_FINGER": Amount(92, 83, 214, 247),
        "XR_FOREARM": Amount(69, 64, 150, 151),
        "XR_HAND": Amount(101, 66, 271, 189),
        "XR_HUMERUS": Amount(68, 67, 148, 140),
        "XR_SHOULDER": Amount(99, 95, 285, 278),
        "XR_WRIST": Amount(140, 97, 364, 295),
    },
}


def compare(meta: PackMeta) -> list[str]:
    """Compare a packed folder with MURA-v1.1.

    Studies that were held out count as those of the train split, which they are of.

    Returns:
        Lines for the user: `MURA-v1.1, complete`, or one for each study type that
        differs, and then the verdict. None at all if the data are something else.
    """
    found = {split: _amounts(meta, split) for split in RELEASE}
    of_mura = [split for split in RELEASE if _is_near(found[split], RELEASE[split])]
    if not of_mura:
        return []
    lines = [line for split in of_mura for line in _differences(split, found[split])]
    others = [split for split in RELEASE if split not in of_mura]
    lines += [
        f"{split}: {'another split than' if found[split] else 'not there, but in'} "
        f"{_NAME}"
        for split in others
    ]
    if not lines:
        return [f"{_NAME}, complete"]
    differ = text.counted(len(lines), "difference", "differences")
    return [*lines, f"{_NAME}, but not as it was published: {differ}, listed above"]


def _amounts(meta: PackMeta, split: str) -> dict[str, Amount]:
    """Return how much of each study type a packed folder has of a split of MURA."""
    amounts: dict[str, Amount] = {}
    for name in (split, "holdout") if split == mura.SPLITS[0] else (split,):
        counts = meta.splits[name].counts if name in meta.splits else {}
        for study_type, each in counts.items():
            abnormal = each.abnormal_studies or 0  # None in older packed folders only
            own = Amount(each.studies - abnormal, abnormal, each.normal, each.abnormal)
            before = amounts.get(study_type, Amount(0, 0, 0, 0))
            amounts[study_type] = Amount(*map(sum, zip(before, own)))
    return amounts


def _is_near(found: Split, published: Split) -> bool:
    return found.keys() == published.keys() and all(
        abs(found[name].studies - amount.studies) <= _NEAR * amount.studies
        for name, amount in published.items()
    )


def _differences(split: str, found: Split) -> Iterator[str]:
    """Yield a line for each study type whose numbers differ."""
    for study_type, published in RELEASE[split].items():
        parts = [
            f"{actual - wanted:+,} {field.replace('_', ' ')} ({actual:,} of {wanted:,})"
            for field, actual, wanted in zip(
                Amount._fields, found[study_type], published
            )
            if actual != wanted
        ]
        if parts:
            yield f"{split} {study_type}: {', '.join(parts)}"
