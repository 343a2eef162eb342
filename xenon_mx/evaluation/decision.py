"""A decision: what xenon-decide concludes about an ensemble, and xenon-predict applies.

Owns the content of `decision.json`, and the rule by which a probability becomes one of
normal, abnormal and refer. Must not know run folders, and how a decision is found.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.evaluation.calibration import Calibration, Quality
from xenon_mx.evaluation.hashed_names import HashedNames
from xenon_mx.evaluation.referral import ClassLimit, Referral
from xenon_mx.evaluation.studies import predict, rounded
from xenon_mx.runtime import text

FORMAT = 1  # raised when an older xenon would misread the new content
DECISIONS = NORMAL, REFER, ABNORMAL = ("normal", "refer", "abnormal")
# How a threshold was decided, if not for a sensitivity, a specificity or kappa.
DEFAULT = "default"  # it was not: 0.5
WITHIN = "refer"  # nearest to 0.5 of those that refer no further study


@dataclass(frozen=True)
class Measure:
    """A metric of the studies that decided, with its 95% interval; None: undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Threshold:
    """The threshold of `prediction`.

    Attributes:
        value: A study is called abnormal if its probability is strictly above.
        kind: `sensitivity`, `specificity`, `kappa`, `DEFAULT` or `WITHIN`.
        target: The sensitivity or specificity that is promised, else None.
        bound: Its one-sided 95% lower bound over patients, else None.
        cross_fitted: For kappa: see `decided_threshold.Best`, else None.
    """

    value: float
    kind: str
    target: float | None = None
    bound: float | None = None
    cross_fitted: float | None = None

    @property
    def is_decided(self) -> bool:
        """Whether it is another than the default."""
        return self.kind != DEFAULT

    def decides(self, threshold: float) -> bool:
        """Return whether a threshold is this one, and was decided."""
        return self.is_decided and threshold == self.value

    def __str__(self) -> str:
        """Return the threshold with its purpose, if it was decided."""
        value = f"threshold {self.value:.9g}"
        return f"{value}, decided for {self.purpose}" if self.is_decided else value

    @property
    def purpose(self) -> str:
        """What it was decided for, in words, such as `a sensitivity of 0.95`."""
        if self.kind == WITHIN:
            return "as few referred studies as possible"
        if self.target is not None:
            return f"a {self.kind} of {self.target:g}"
        return f"the best {self.kind}"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Threshold:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        names = ("target", "bound", "cross_fitted")
        return cls(
            value=_number(content["value"]),
            kind=_text(content["kind"]),
            **{name: _optional(content[name]) for name in names},
        )


@dataclass(frozen=True)
class DecidedOn:
    """What a decision was made on.

    Attributes:
        table_sha256: Of the table of predictions.
        studies: The number of studies.
        abnormal: How many of them are abnormal.
        patients: The number of patients.
        abnormal_patients: How many of them have an abnormal study.
        normal_patients: How many of them have a normal study.
        may_have_trained: Whether a net decided that was not trained here, or began as
            such a net, so that these studies may have trained it.
    """

    table_sha256: str
    studies: int
    abnormal: int
    patients: int
    abnormal_patients: int
    normal_patients: int
    may_have_trained: bool = False

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DecidedOn:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        counts = [each.name for each in fields(cls) if each.type == "int"]
        return cls(
            table_sha256=_text(content["table_sha256"]),
            may_have_trained=content.get("may_have_trained", False) is True,
            **{name: _count(content[name]) for name in counts},
        )

    def __str__(self) -> str:
        """Return `512 studies of 430 patients`, and whether they may have trained."""
        studies = text.counted(self.studies, "study", "studies")
        words = f"{studies} of {text.counted(self.patients, 'patient')}"
        return f"{words}, who may have trained the net" * self.may_have_trained or words


@dataclass(frozen=True)
class Decision:
    """What was decided about an ensemble.

    Attributes:
        members: The SHA-256 of its members' params, in alphabetical order.
        calibration: The two numbers.
        before: How the probabilities agree with the labels.
        after: The same when each patient's are calibrated on other patients.
        threshold: The threshold of `prediction`.
        measures: Sensitivity, specificity and kappa at the threshold.
        referral: The thresholds of the third answer, or None.
        answers: How many of the studies that decided have each of `DECISIONS`.
        decided_on: The studies that decided.
        time: When, in UTC: `2024-05-01T12:00:00Z`.
        versions: Package to version.
        names: By which these studies are known again; None in an ONNX file, which
            holds no hash of a name.
    """

    members: tuple[str, ...]
    calibration: Calibration
    before: Quality
    after: Quality
    threshold: Threshold
    measures: Mapping[str, Measure]
    referral: Referral | None
    answers: Mapping[str, int]
    decided_on: DecidedOn
    time: str
    versions: Mapping[str, str]
    names: HashedNames | None = None

    def calibrate(self, prob: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of (N,) probabilities."""
        return self.calibration.apply(rounded(prob))

    def decide(self, prob: np.ndarray) -> list[str]:
        """Return `NORMAL`, `ABNORMAL` or `REFER` for each of (N,) probabilities.

        It is what `predict` says, unless the third answer forbids it: a study is
        normal only below the low limit, and abnormal only above the high one. So no
        decision contradicts `prediction`, and where a threshold was promised that is
        outside of the limits, the studies between are referred: both promises hold,
        since to refer a study neither misses it nor changes its prediction.
        """
        digits = rounded(prob)
        predicted = predict(prob, self.threshold.value) == 1
        if self.referral is None:
            return [ABNORMAL if positive else NORMAL for positive in predicted]
        may_be_normal = digits < self.referral.low.limit
        may_be_abnormal = digits > self.referral.high.limit
        return [
            (ABNORMAL if high else REFER) if positive else (NORMAL if low else REFER)
            for positive, low, high in zip(predicted, may_be_normal, may_be_abnormal)
        ]

    def count(self, prob: np.ndarray) -> dict[str, int]:
        """Return how many of (N,) probabilities have each of `DECISIONS`."""
        found = self.decide(prob)
        return {name: found.count(name) for name in DECISIONS}

    def is_of(self, members: Sequence[str]) -> bool:
        """Return whether it is about exactly these members, by their SHA-256."""
        return sorted(members) == sorted(self.members)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without NaN."""
        refer = self.referral
        names = {} if self.names is None else {"names": self.names.to_json()}
        return {
            "format": FORMAT,
            "time": self.time,
            "versions": dict(self.versions),
            "members": list(self.members),
            "decided_on": asdict(self.decided_on),
            "calibration": {
                **self.calibration._asdict(),
                "before": self.before._asdict(),
                "after": self.after._asdict(),
            },
            "threshold": asdict(self.threshold),
            "measures": {name: asdict(each) for name, each in self.measures.items()},
            "refer": refer
            and {
                "alpha": refer.alpha,
                "low": _limit_to_json(refer.low),
                "high": _limit_to_json(refer.high),
            },
            "answers": dict(self.answers),
            **names,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """Parse a JSON object; keys of a later xenon are ignored.

        Raises:
            KeyError, TypeError, ValueError: It is of another format, or not valid.
        """
        if content["format"] != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        fitted, refer = content["calibration"], content["refer"]
        return cls(
            members=tuple(map(_text, content["members"])),
            calibration=Calibration(*_numbers(fitted, Calibration._fields)),
            before=Quality(*_numbers(fitted["before"], Quality._fields)),
            after=Quality(*_numbers(fitted["after"], Quality._fields)),
            threshold=Threshold.from_json(content["threshold"]),
            measures={
                _text(name): Measure(
                    *(_optional(each[key]) for key in ("value", "low", "high"))
                )
                for name, each in content["measures"].items()
            },
            referral=refer
            and Referral(
                _number(refer["alpha"]),
                _limit_from_json(refer["low"]),
                _limit_from_json(refer["high"]),
            ),
            answers={name: _count(content["answers"][name]) for name in DECISIONS},
            decided_on=DecidedOn.from_json(content["decided_on"]),
            time=_text(content["time"]),
            versions=dict(content["versions"]),
            names=(
                HashedNames.from_json(content["names"]) if "names" in content else None
            ),
        )


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON has it: None for NaN."""
    return float(value) if math.isfinite(value) else None


def _limit_to_json(limit: ClassLimit) -> dict[str, Any]:
    return {**limit._asdict(), "miss_rate": list(limit.rate_range())}


def _limit_from_json(content: Mapping[str, Any]) -> ClassLimit:
    return ClassLimit(
        _number(content["limit"]), _count(content["patients"]), _count(content["rank"])
    )


def _numbers(content: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    return [_number(content[name]) for name in names]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    if not math.isfinite(value):
        raise ValueError("not finite")
    return float(value)


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value
