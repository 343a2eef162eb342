"""Members in, logits out: the forward pass that validation and prediction share.

Owns which checkpoints make an ensemble, and how nets see images. Knows no image files
and no CSVs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Sequence

import numpy as np

from xenon_mx import models
from xenon_mx.checkpoints import Member, Run
from xenon_mx.engine import gluon, mx
from xenon_mx.errors import XenonError

# What runs must share, for one set of pixels to suit all of their nets, and for their
# validation losses to be comparable.
_AGREE = ("data", "preprocessing", "study_types", "weights")


def logits(
    nets: Sequence[Any], batches: Iterable[np.ndarray], ctxs: Sequence[Any]
) -> np.ndarray:
    """Run images through nets.

    Args:
        nets: M nets, each on every one of `ctxs`.
        batches: (n, S, S) uint8 each, N images altogether.
        ctxs: Devices that share every batch.

    Returns:
        (N, M) float32 logits.
    """
    results = []
    for pixels in batches:
        parts = [models.normalise(part) for part in spread(pixels, ctxs)]
        outputs = [[net(part) for part in parts] for net in nets]
        columns = [np.concatenate([o.asnumpy() for o in each]) for each in outputs]
        results.append(np.concatenate(columns, axis=1))
    if not results:
        return np.zeros((0, len(nets)), np.float32)
    return np.concatenate(results)


def spread(array: np.ndarray, ctxs: Sequence[Any]) -> list[Any]:
    """Cut an array along its first axis into a part for each device, and send them.

    Fewer rows than devices leave the last devices idle.
    """
    sent = mx.nd.array(array, dtype=array.dtype)
    used = list(ctxs[: len(array)])
    return gluon.utils.split_and_load(sent, used, even_split=False)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))


def _check_door(run: Run) -> None:
    """Refuse a run whose nets saw other pixels, or are others, than ours would be."""
    seen = run.meta["preprocessing"]
    door = {"mean": list(models.MEAN), "std": list(models.STD)}
    if {key: seen.get(key) for key in door} != door:
        raise XenonError(f"{run.folder}: trained with another mean or std than xenon's")
    if run.meta["architecture"] != models.ARCHITECTURE:
        raise XenonError(f"{run.folder}: trained with another kind of net than xenon's")


class Ensemble:
    """The best checkpoints of one run or several.

    Args:
        folders: The run folders.
        members: How many checkpoints at most, the lowest validation losses first.

    Raises:
        XenonError: A folder is no run, has no finished epoch, or the runs were
            trained on different data or with different preprocessing.
    """

    def __init__(self, folders: Sequence[Path], members: int) -> None:
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise XenonError("--run names a run twice")
        self.runs = [Run.open(folder) for folder in folders]
        first = self.runs[0]
        for run in self.runs:
            _check_door(run)
        for run in self.runs[1:]:
            for key in _AGREE:
                if run.meta[key] != first.meta[key]:
                    raise XenonError(
                        f"{run.folder} and {first.folder} differ in {key}: their nets "
                        f"cannot be averaged"
                    )
        ranked = sorted(
            ((member, run) for run in self.runs for member in run.members()),
            key=lambda pair: pair[0][:2],
        )
        if not ranked:
            names = ", ".join(str(folder) for folder in folders)
            raise XenonError(f"{names}: no finished epoch to predict with")
        self._chosen = ranked[:members]

    @property
    def meta(self) -> dict[str, Any]:
        """What run.json says, where all of the runs agree."""
        return self.runs[0].meta

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The `size` and `fit` of the pixels that the nets were trained on."""
        return {key: self.meta["preprocessing"][key] for key in ("size", "fit")}

    @property
    def members(self) -> list[Member]:
        """The checkpoints, the lowest validation loss first."""
        return [member for member, _ in self._chosen]

    def load(self, ctxs: Sequence[Any]) -> list[models.Net]:
        """Build the nets, checked against the SHA-256 that their run recorded."""
        nets = []
        for member, run in self._chosen:
            member.check()
            model = run.meta["config"]["model"]
            nets.append(models.build(model, member.params, list(ctxs)))
        return nets
