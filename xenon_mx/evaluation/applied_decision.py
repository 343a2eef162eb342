"""What a table's record says of the decision that made its last columns.

Owns its content and its sentences. Must not know the decision's own file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Mapping

from xenon_mx.evaluation.decision import DecidedOn, Decision, Threshold
from xenon_mx.runtime import text


@dataclass(frozen=True)
class AppliedDecision:
    """A decision that was applied to a table.

    Attributes:
        time: When it was decided, in UTC.
        threshold: The threshold that was decided.
        is_overruled: Whether another one was given, and made the predictions.
        alpha: What was decided of the third answer: see `Referral`; None without it.
        decided_on: The studies that decided.
        studies: How many of the table's studies are among them, by their names; None
            if that is not known.
        patients: How many of the others are of the patients of these.
    """

    time: str
    threshold: Threshold
    is_overruled: bool
    alpha: float | None
    decided_on: DecidedOn
    studies: int | None
    patients: int | None

    @classmethod
    def of(
        cls,
        decision: Decision,
        is_overruled: bool,
        pairs: Iterable[tuple[str, str]],
    ) -> AppliedDecision:
        """Describe a decision that is applied to studies.

        Args:
            decision: The decision.
            is_overruled: Whether its threshold is not used.
            pairs: The names of the studies and of their patients.
        """
        counts = (None, None) if decision.names is None else decision.names.count(pairs)
        return cls(
            time=decision.time,
            threshold=decision.threshold,
            is_overruled=is_overruled,
            alpha=decision.referral.alpha if decision.referral else None,
            decided_on=decision.decided_on,
            studies=counts[0],
            patients=counts[1],
        )

    @property
    def is_used_twice(self) -> bool:
        """Whether the decision was made on some of the table's studies or patients."""
        return bool(self.studies or self.patients)

    @property
    def warning(self) -> str:
        """A sentence for `is_used_twice`, without a capital letter and a full stop."""
        decided, metrics = "calibration and threshold were decided", "metrics"
        if not self.threshold.is_decided:
            decided, metrics = "the calibration was decided", "metrics of calibrated"
        count = self.studies or self.patients or 0
        words = text.counted(count, "study is, by its name,", "studies are, by name,")
        if self.studies:
            words += f" among those on which {decided}"
            if self.patients:
                others = ("other study is", "other studies are")
                words += (
                    f", and {text.counted(self.patients, *others)} of their patients"
                )
        else:
            words += f" of patients on whom {decided}"
        return f"{words}: {metrics} on them are too good"

    def __str__(self) -> str:
        """Return what the threshold is, and on what it was decided, in words."""
        decided = f"on {self.decided_on}, {self.time}"
        if self.is_overruled:
            return f"given, instead of {self.threshold.value:g} as decided {decided}"
        if not self.threshold.is_decided:
            return f"the default; a calibration was decided {decided}"
        return f"decided for {self.threshold.purpose}, {decided}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> AppliedDecision:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        if not isinstance(content["is_overruled"], bool):
            raise TypeError("is_overruled is true or false")
        counts = [content[name] for name in ("studies", "patients")]
        if not all(count is None or type(count) is int for count in counts):
            raise TypeError("not a count")
        alpha = content["alpha"]
        return cls(
            time=str(content["time"]),
            threshold=Threshold.from_json(content["threshold"]),
            is_overruled=content["is_overruled"],
            alpha=None if alpha is None else float(alpha),
            decided_on=DecidedOn.from_json(content["decided_on"]),
            studies=counts[0],
            patients=counts[1],
        )
