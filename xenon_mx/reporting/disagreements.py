"""Where two predictions disagree: how often, and on which samples.

Owns the outcomes that the gallery shows, and their words; must not know the gallery's
files, or the page.
"""

from __future__ import annotations

from xenon_mx.evaluation.pairing import Pair
from xenon_mx.evaluation.prediction_tables import count_phrase
from xenon_mx.reporting.gallery import Outcome


def count(pair: Pair) -> str:
    """Return how often A and B predict the same, in sentences."""
    first, second = pair.predictions
    different = int((first != second).sum())
    only = int((first & ~second).sum())
    return (
        f"A and B predict the same for {len(pair.names) - different:,} of "
        f"{count_phrase(len(pair.names), pair.first.level)}. They differ on "
        f"{count_phrase(different, pair.first.level)}: {only:,} called abnormal by A "
        f"only, {different - only:,} by B only."
    )


def outcomes(pair: Pair) -> list[Outcome]:
    """Return the samples on which A and B disagree, by which of them is correct."""
    is_first_correct = pair.predictions[0] == (pair.first.labels == 1)
    rows = pair.disagreements()
    found = []
    for name, is_correct in (("A", True), ("B", False)):
        chosen = [row for row in rows if is_first_correct[row] == is_correct]
        count = count_phrase(len(chosen), pair.first.level)
        title = f"Only {name} is correct"
        found.append(Outcome(title, f"{count}.", not is_correct, chosen))
    return found


def describe(pair: Pair, row: int) -> str:
    """Return the study type, label and both probabilities of a sample."""
    label = ("normal", "abnormal")[int(pair.first.labels[row])]
    return (
        f"{pair.first.study_types[row] or 'no study type'}, labelled {label}: A "
        f"{pair.first.prob[row]:.3f}, B {pair.second.prob[row]:.3f}"
    )
