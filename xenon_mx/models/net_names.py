"""The names of the nets, and which was meant by a name that none has.

Owns the list. Must not know MXNet, so that a name is checked before that is imported.
"""

from __future__ import annotations

from xenon_mx.runtime import text

# Nets of gluoncv's zoo that end in a feature map, pooling and a linear layer. ResNeSt
# is left out: from 26 layers on, its DropBlock masks have the size for 224 px images.
NAMES = (
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(
        f"resnet{depth}_{version}"
        for version in ("v1", "v2", "v1b")
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        f"{family}{depth}_{groups}"
        for family in ("resnext", "se_resnext")
        for depth, groups in ((50, "32x4d"), (101, "32x4d"), (101, "64x4d"))
    ),
    *(
        f"mobilenet{version}{width}"
        for version in ("", "v2_")
        for width in ("0.25", "0.5", "0.75", "1.0")
    ),
    "squeezenet1.0",
    "squeezenet1.1",
)

_SIMILARITY = 0.85  # chosen here: `desnet121` is near densenet121, `vgg16` near none


def unknown(name: str) -> str:
    """Return the error message for a name that no net has, with the names near it."""
    near = ", ".join(_near_names(name))
    meant = f"did you mean {near}? " if near else ""
    return f"there is no net {name!r}: {meant}xenon-train --list-models shows all nets"


def _near_names(name: str) -> list[str]:
    """Return the nets whose names begin with a name, or else those most like it."""
    return text.begun(name, NAMES) or text.similar(name, NAMES, _SIMILARITY)
