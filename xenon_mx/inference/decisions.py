"""The decision that holds for an ensemble, if there is one.

Owns when a decision is used, and when that is an error. Must not know what is decided,
and where the ensemble keeps it.
"""

from __future__ import annotations

import logging

from xenon_mx.config import MEMBERS, THRESHOLD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.inference.ensembles import Ensemble

_log = logging.getLogger(__name__)


def find(
    ensemble: Ensemble, threshold: float | None = None, is_exported: bool = False
) -> Decision | None:
    """Return the decision about exactly these members; None if there is none.

    Args:
        ensemble: The members, of one run or several, or of an ONNX file.
        threshold: The one that the user gave, which needs no decision.
        is_exported: Whether no threshold can be given instead.

    Raises:
        XenonError: There is a decision, but it is about other members, or its file was
            changed, and no threshold is given.
    """
    try:
        found = ensemble.decisions()
    except XenonError as error:
        if threshold is None:
            raise
        _log.warning("%s", error)
        return None
    if not found:
        return None
    names = ", ".join(found)
    if len(ensemble.source().runs) > 1:
        _log.info(
            "%s: not used: it is about one run, and these are several; the threshold "
            "is %g",
            names,
            THRESHOLD if threshold is None else threshold,
        )
        return None
    (decision,) = found.values()
    if decision.is_of(ensemble.source().sums()):
        return decision
    reason = f"{names}: was decided for other members than {ensemble.source()}"
    if threshold is None:
        raise XenonError(f"{reason}: {_remedy(ensemble, is_exported)}")
    _log.warning("%s: not used", reason)
    return None


def _remedy(ensemble: Ensemble, is_exported: bool) -> str:
    """Return what to do where the decision is about other members."""
    without = "move the file to another folder" if is_exported else "give --threshold"
    if ensemble.asked != MEMBERS:
        return f"leave --members out, or {without}"
    return (
        f"to decide anew, predict labelled studies with --threshold {THRESHOLD:g}, and "
        f"give their table to xenon-decide; or {without}"
    )


def threshold_of(decision: Decision | None, given: float | None) -> float:
    """Return the threshold of `prediction`: the given, the decided or the default."""
    if given is not None:
        return float(given)
    return decision.threshold.value if decision else THRESHOLD
