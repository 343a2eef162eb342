"""How many of the studies that were predicted the nets have seen in training.

Owns what may be claimed of it, and the sentences; must not know how it is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenon_mx.runtime import text

# How `Seen` is known.
BY_RECORDS, BY_NAMES, BY_FOLDS = "records", "names", "folds"
UNKNOWN = "unknown"

# In place of the split that trained a net, where xenon-train --epochs 0 took it as it
# was: nothing is known of its training, so that no study may be called unseen.
ELSEWHERE = "elsewhere"
MAY_BE_SEEN = (
    "a net of the ensemble was not trained here, and may have been trained on these "
    "studies: if it was, metrics on them are too good"
)
BEGAN_ELSEWHERE = (
    "a net of the ensemble began as one that was not trained here, and that may have "
    "been trained on these studies: if it was, metrics on them are too good"
)


@dataclass(frozen=True)
class Seen:
    """How many of the predicted studies the nets have seen before.

    Attributes:
        basis: `records`: the packed folder that trained the nets was predicted, which
            is certain. `names`: the names of the studies were compared. `folds`: each
            study was predicted by the run of the fold that left it out. `unknown`.
        studies: The number of studies that were predicted.
        trained: How many of them trained the nets.
        validated: How many of the others chose the checkpoints.
        patients: How many of the others are of patients of whom another study did.
    """

    basis: str
    studies: int
    trained: int = 0
    validated: int = 0
    patients: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known which of the studies were seen."""
        return self.basis != UNKNOWN

    @property
    def is_any(self) -> bool:
        """Whether the nets have seen any study, or another one of its patient."""
        return bool(self.trained or self.validated or self.patients)

    def __str__(self) -> str:
        """Return a sentence without a capital letter and a full stop."""
        if self.basis == BY_RECORDS:
            return self._by_records()
        if self.basis == BY_NAMES:
            return self._by_names()
        if self.basis == BY_FOLDS:
            return (
                "each study was predicted by nets that neither trained on its patient "
                "nor were chosen on them: out of fold"
            )
        return (
            "it is not known whether these studies trained the nets or chose their "
            "checkpoints"
        )

    def _by_records(self) -> str:
        if self.trained:
            return (
                "the nets were trained on these images: metrics on them are meaningless"
            )
        if self.validated:
            return (
                "these images chose the checkpoints: metrics on them are too good; for "
                "honest ones, predict studies that training does not read, such as "
                "valid.rec of a folder that was packed with --holdout"
            )
        return (
            "these images neither trained the nets nor chose their checkpoints: they "
            "are of another split of the same packed folder"
        )

    def _by_names(self) -> str:
        counted = (
            (
                self.trained,
                "has the name of a study that trained the nets",
                "have the names of studies that trained the nets",
            ),
            (
                self.validated,
                "has the name of a study that chose the checkpoints",
                "have the names of studies that chose the checkpoints",
            ),
            (
                self.patients,
                "is another study of a patient with such a name",
                "are other studies of patients with such names",
            ),
        )
        parts = [
            text.counted(count, singular, plural)
            for count, singular, plural in counted
            if count
        ]
        if not parts:
            return (
                f"none of the {text.counted(self.studies, 'study', 'studies')} has "
                f"the name of a study that trained the nets or chose their checkpoints"
            )
        return (
            f"of the {text.counted(self.studies, 'study', 'studies')}, "
            f"{', and '.join(parts)}: unless only the names are the same, metrics on "
            f"them are too good"
        )
