"""Groups of patients, so that nothing is judged on the patients that it was fitted on.

Owns how patients are divided into groups; must not know what is fitted.
"""

from __future__ import annotations

from typing import Iterator, Sequence

import numpy as np

GROUPS = 10  # Kohavi, IJCAI 1995: ten groups, each with its share of both classes


def splits(
    labels: np.ndarray, patients: Sequence[str], seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which samples to fit on and which to judge, group by group.

    Patients with an abnormal sample and the others are shuffled, then dealt out in
    turn, so that every group has about as many of both.

    Args:
        labels: (N,) of 0 and 1.
        patients: The patient of each sample. The order of the samples does not matter.
        seed: Seed of the shuffle.

    Yields:
        Two (N,) arrays of bool: the samples of the other groups, and of this one.
    """
    group = _group_index(labels, patients, seed)
    for number in range(int(group.max()) + 1 if len(group) else 0):
        yield group != number, group == number


def _group_index(labels: np.ndarray, patients: Sequence[str], seed: int) -> np.ndarray:
    """Return the group of each sample: (N,) int64, from 0."""
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    abnormal = np.bincount(index, weights=labels, minlength=len(names)) > 0
    # Not default_rng: the numbers of RandomState are the same in every NumPy.
    shuffled = np.random.RandomState(seed).permutation(len(names))
    dealt = shuffled[np.argsort(~abnormal[shuffled], kind="stable")]
    group = np.empty(len(names), dtype=np.int64)
    group[dealt] = np.arange(len(names)) % GROUPS
    return group[index]
