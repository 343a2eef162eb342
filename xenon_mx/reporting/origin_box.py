"""The head of the page: what the predictions are, and what is unknown of them.

Owns its words. Must not know how the runs of a table are found, or the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenon_mx.config import ReportConfig
from xenon_mx.evaluation import provenance
from xenon_mx.evaluation.left_out import LeftOut
from xenon_mx.evaluation.provenance import Provenance
from xenon_mx.evaluation.seen import UNKNOWN, Seen
from xenon_mx.inference import cam_folder
from xenon_mx.reporting.origin import Origin
from xenon_mx.runtime.text import counted, one_line

# Of an INPUT's kind, and plural by an appended s.
_KINDS = {
    "csv": "CSV",
    "manifest": "manifest",
    "rec": ".rec file",
    "folder": "folder",
    "file": "image file",
}


@dataclass(frozen=True)
class OriginBox:
    """What the head of the page says of the predictions.

    Attributes:
        facts: Names and values.
        is_caution: Whether the nets have seen the studies, or that is not known, or a
            decision was made on them.
    """

    facts: list[tuple[str, str]]
    is_caution: bool


def describe(origin: Origin, config: ReportConfig) -> OriginBox | None:
    """Return what the predictions are; None without a table."""
    if origin.recorded is None:
        return None
    found = origin.provenance
    if found is None:
        facts = _unknown_facts(origin)
    else:
        facts = _known_facts(found)
    facts += _threshold_facts(origin)
    if config.images is not None and found:
        facts += _note_of("Images", provenance.read(config.images).provenance)
    if config.cam is not None and found:
        facts += _note_of("Maps", cam_folder.read_ensemble(config.cam))
    is_caution = origin.seen is None or origin.seen.is_any or bool(origin.used_twice)
    return OriginBox([(name, one_line(value)) for name, value in facts], is_caution)


def _threshold_facts(origin: Origin) -> list[tuple[str, str]]:
    """Return the threshold, and how it was decided."""
    threshold = f"if the probability is above {origin.threshold:.9g}"
    if not origin.is_threshold_known:
        threshold += ", assumed: the table does not say"
    decision = origin.provenance.decision if origin.provenance else None
    if decision is None:
        return [("Called abnormal", threshold)]
    return [("Called abnormal", f"{threshold}, {decision}")]


def _note_of(name: str, found: object | None) -> list[tuple[str, str]]:
    """Return a fact if it is not known which ensemble images or maps are of."""
    return [] if found else [(name, "of which ensemble is not known")]


def _unknown_facts(origin: Origin) -> list[tuple[str, str]]:
    assert origin.recorded is not None
    runs = ", ".join(str(run.folder) for run in origin.runs)
    predicted = "not known"
    if runs:
        predicted += f"; that it was {runs} is what the command says"
    return [
        ("Predicted by", predicted),
        ("Why it is not known", origin.recorded.reason),
        ("Seen before", _sentence(Seen(UNKNOWN, 0))),
    ]


def _known_facts(found: Provenance) -> list[tuple[str, str]]:
    counts = found.counts
    xenon = found.versions.get("xenon", "of an unknown version")
    command = found.command.get("name", "xenon-predict")
    settings = found.preprocessing
    return [
        ("Predicted by", str(found.ensemble)),
        ("Trained on", _trained_on(found)),
        (
            "Predicted",
            f"{counted(counts.studies, 'study', 'studies')}, "
            f"{counted(counts.images, 'image')}, {_inputs(found)}",
        ),
        *_left_out(found.left_out),
        ("Seen before", _sentence(found.seen)),
        (
            "Input",
            f"{settings.get('size')}x{settings.get('size')} pixels, fitted by "
            f"{settings.get('fit')}",
        ),
        *_engine(found),
        ("Written", f"by {command} (xenon {xenon}), {found.time}"),
    ]


def _trained_on(found: Provenance) -> str:
    """Return which data trained the nets and chose the checkpoints, in words."""
    data = found.data
    packed = f"of the packed data {_short(data.fingerprint)}"
    chosen = data.validated_on or "an unknown split"
    if not data.is_from_elsewhere:
        trained = data.trained_on or "train"
        began = "; began as a net that was not trained here, on what is not known"
        words = f"{trained} {packed}; checkpoints chosen on {chosen}"
        return words + began * (data.pretrained_on is not None)
    one = len(found.ensemble.members) == 1
    who = "not trained here" if one else "a member was not trained here"
    return f"{who}: on what is not known; validated on {chosen} {packed}"


def _engine(found: Provenance) -> list[tuple[str, str]]:
    """Return a fact of what computed the nets, which older tables do not say."""
    runtime, precision = (found.command.get(key) for key in ("runtime", "precision"))
    if runtime is None or precision is None:
        return []
    version = found.versions.get(runtime, "of an unknown version")
    return [("Computed by", f"{runtime} {version}, {precision}")]


def _left_out(left_out: LeftOut) -> list[tuple[str, str]]:
    """Return a fact if images were left out."""
    if not left_out.images:
        return []
    count = len(left_out.images)
    words = ("image that could not be read", "images that could not be read")
    return [("Left out", f"{counted(count, *words)}{left_out.effects()}")]


def _inputs(found: Provenance) -> str:
    """Return what was predicted, in words."""
    inputs = found.inputs
    if inputs.fingerprint and inputs.split:
        return f"from {inputs.split} of the packed data {_short(inputs.fingerprint)}"
    return "from " + ", ".join(
        counted(count, _KINDS.get(kind, kind)) for kind, count in inputs.kinds.items()
    )


def _short(digest: str) -> str:
    """Return enough of a SHA-256 to tell two apart."""
    return digest[:12]


def _sentence(seen: Seen) -> str:
    text = str(seen)
    return f"{text[:1].upper()}{text[1:]}."
