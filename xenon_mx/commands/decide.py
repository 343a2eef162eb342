"""xenon-decide: from a table of predictions to a decision about the run's ensemble.

Owns which tables may decide, and the order of the work. Must not know how a calibration
or a threshold is found, or the command line.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from xenon_mx import __version__
from xenon_mx.commands import recognition
from xenon_mx.config import MEMBERS, THRESHOLD, DecideConfig
from xenon_mx.data import output_records, outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import (
    calibration,
    decided_threshold,
    estimates,
    evaluation_set,
    prediction_tables,
    provenance,
    referral,
    sample_size,
)
from xenon_mx.evaluation.decision import (
    DEFAULT,
    WITHIN,
    DecidedOn,
    Decision,
    Measure,
    Threshold,
    finite_or_none,
)
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.hashed_names import HashedNames
from xenon_mx.evaluation.prediction_tables import PredictionTable
from xenon_mx.evaluation.provenance import EnsembleSource, Provenance
from xenon_mx.evaluation.referral import Referral
from xenon_mx.evaluation.sample_size import SampleSize
from xenon_mx.evaluation.seen import BY_RECORDS
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runs import decision_file
from xenon_mx.runs.decision_file import DECISION_JSON, DecisionRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files, text

# Chosen here, as for an interval: two numbers of a calibration need some patients, and
# a promise asks for many more.
_FEWEST_PATIENTS = 5  # with an abnormal study, and with a normal one
_MEASURES = ("sensitivity", "specificity", "kappa")


def decide(config: DecideConfig) -> Decision:
    """Decide calibration and thresholds of a run, and write its decision.json.

    Args:
        config: The settings of `xenon-decide`.

    Raises:
        XenonError: The table cannot be used, or has too few patients for what is to be
            promised, or decision.json may not be replaced; nothing is written then.
    """
    recognition.check_decide(config.run, config.table)
    run = Run.open(config.run)
    out = config.run / DECISION_JSON
    output = outputs.Output(out, "RUN", (".json",), DecisionRecord(), True)
    written = outputs.Outputs("xenon-decide", [output], config.overwrite)
    ensemble = RunEnsemble([config.run], MEMBERS).source()
    table = _read_table(config, ensemble)
    samples = _samples(table)
    read = [path for path in run.contents() if path != out]
    written.claim(
        outputs.made_from({"runs": [run.identity]}),
        [*read, *output_records.BesideRecord().files(config.table)],
    )
    decision = _decide(config, table, samples, ensemble, run.meta.may_have_seen_any)
    data = json.dumps(decision.to_json(), allow_nan=False).encode()
    written.write({out: data})
    return decision


def sample_sizes(config: DecideConfig, decision: Decision) -> list[SampleSize]:
    """Compute how many patients like those who decided narrower intervals would need.

    Args:
        config: The settings of `xenon-decide`.
        decision: What was decided.
    """
    samples = _samples(prediction_tables.read_table(config.table))
    return sample_size.sample_sizes(samples, decision.threshold.value)


# --- the table ---


def _read_table(config: DecideConfig, ensemble: EnsembleSource) -> PredictionTable:
    """Read the table, and check that it may decide."""
    table = prediction_tables.read_table(config.table)
    if table.level != "study":
        raise XenonError(
            f"{config.table}: is a table of images, and a decision is about studies: "
            f"give OUT.csv, not --images"
        )
    recorded = provenance.read(config.table)
    if recorded.provenance is None:
        raise XenonError(
            f"{config.table}: it is not known which ensemble predicted it, and whether "
            f"these studies trained it: {recorded.reason}: give a table and the file "
            f"beside it as xenon-predict wrote them"
        )
    _check_members(config, recorded.provenance, ensemble)
    _check_unseen(config.table, recorded.provenance)
    return table


def _check_members(
    config: DecideConfig, found: Provenance, ensemble: EnsembleSource
) -> None:
    """Check that xenon-predict would predict with the members of the table now."""
    if found.ensemble.has_members_of(ensemble):
        return
    run = text.shell_quote(config.run)
    theirs, ours = str(found.ensemble), str(ensemble)
    if theirs == ours:
        theirs += f" with SHA-256 {found.ensemble.members[0].sha256}"
        ours += f" with SHA-256 {ensemble.members[0].sha256}"
    flags = "without --members"
    if _is_decision_unusable(config.run, ensemble):
        flags += f" and with --threshold {THRESHOLD:g}"
    raise XenonError(
        f"{config.table}: was predicted by {theirs}, and xenon-predict --run {run} "
        f"uses {ours}: predict these studies anew with it, {flags}"
    )


def _is_decision_unusable(run: Path, ensemble: EnsembleSource) -> bool:
    """Return whether xenon-predict stops at the run's decision, without a threshold."""
    try:
        found = decision_file.read(run)
    except XenonError:
        return True
    return found is not None and not found.is_of(ensemble.sums())


def _check_unseen(table: Path, found: Provenance) -> None:
    """Check that no study has trained or chosen the members, nor one of its patient.

    Of a net that was not trained here, this cannot be known, whatever is given.
    """
    seen = found.seen
    if seen.is_known and not seen.is_any:
        return
    if found.data.is_from_elsewhere:  # never known: the decision says so
        return
    advice = "decide on others, such as calibration.rec"
    if not seen.is_known:
        reason = "it is not known whether its studies trained the nets"
        advice += ", predicted with the run itself"
    elif seen.basis == BY_RECORDS:
        done = "trained the nets" if seen.trained else "chose the checkpoints"
        reason = f"its studies {done}"
    else:
        count = seen.trained + seen.validated + seen.patients
        reason = (
            f"by name, {count:,} of {text.counted(seen.studies, 'study', 'studies')} "
            f"are of patients that trained the nets or chose the checkpoints"
        )
    raise XenonError(f"{table}: cannot decide: {reason}; {advice}")


def _samples(table: PredictionTable) -> EvaluationSet:
    """Return the studies of the table, if they are labelled, and enough."""
    unlabelled = int((table.labels == UNLABELLED).sum())
    if unlabelled:
        raise XenonError(
            f"{table.file}: no label in {unlabelled:,} of "
            f"{text.counted(len(table.labels), 'row')}: predict labelled studies, from "
            f"a manifest with the column label, with --labels, or from folders whose "
            f"names end in _positive or _negative"
        )
    samples = evaluation_set.from_table(table)
    if not samples.patients_known:
        unknown = table.patients.count("")
        raise XenonError(
            f"{table.file}: of {text.counted(unknown, 'study', 'studies')} the patient "
            f"is not known, and promises are about patients: predict from a manifest "
            f"with a column patient"
        )
    for label, name in ((1, "an abnormal"), (0, "a normal")):
        count = len(_patients_with(samples, label))
        if count < _FEWEST_PATIENTS:
            raise XenonError(
                f"{table.file}: has {text.counted(count, 'patient')} with {name} "
                f"study, and a decision needs at least {_FEWEST_PATIENTS}"
            )
    return samples


def _patients_with(samples: EvaluationSet, label: int) -> set[str]:
    """Return the patients with a study of a label."""
    pairs = zip(samples.patients, samples.labels)
    return {patient for patient, own in pairs if own == label}


# --- the decision ---


def _decide(
    config: DecideConfig,
    table: PredictionTable,
    samples: EvaluationSet,
    ensemble: EnsembleSource,
    may_have_trained: bool,
) -> Decision:
    """Compute all that is decided."""
    labels, prob = samples.labels, samples.prob
    fitted = calibration.fit(labels, prob, config.temperature)
    calibrated = calibration.cross_fit(
        labels, prob, samples.patients, config.temperature
    )
    found = None
    if config.refer is not None:
        found = referral.refer(samples, config.refer)
    threshold = _threshold(config, samples, found)
    now = datetime.datetime.now(datetime.timezone.utc)
    decision = Decision(
        members=tuple(ensemble.sums()),
        calibration=fitted,
        before=calibration.quality(labels, prob),
        after=calibration.quality(labels, calibrated),
        threshold=threshold,
        measures=_measures(samples, threshold.value),
        referral=found,
        answers={},  # counted below
        decided_on=DecidedOn(
            table_sha256=files.sha256(table.file),
            studies=len(labels),
            abnormal=int(labels.sum()),
            patients=len(set(samples.patients)),
            abnormal_patients=len(_patients_with(samples, 1)),
            normal_patients=len(_patients_with(samples, 0)),
            may_have_trained=may_have_trained,
        ),
        time=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions={"xenon": __version__, "numpy": np.__version__},
        names=HashedNames.of(dict(zip(table.studies, samples.patients))),
    )
    return replace(decision, answers=decision.count(prob))


def _threshold(
    config: DecideConfig, samples: EvaluationSet, found: Referral | None
) -> Threshold:
    """Decide the threshold of `prediction`, as the settings ask for it."""
    for kind in (decided_threshold.SENSITIVITY, decided_threshold.SPECIFICITY):
        target = getattr(config, kind)
        if target is not None:
            promised = decided_threshold.promise(samples, kind, target)
            return Threshold(
                promised.threshold, kind, target=target, bound=promised.bound
            )
    if config.best is not None:
        best = decided_threshold.best_kappa(samples)
        return Threshold(
            best.threshold, config.best, cross_fitted=finite_or_none(best.cross_fitted)
        )
    if found is None:
        return Threshold(THRESHOLD, DEFAULT)
    return Threshold(found.inner_threshold(THRESHOLD, samples.prob), WITHIN)


def _measures(samples: EvaluationSet, threshold: float) -> dict[str, Measure]:
    """Return the metrics at a threshold, with their intervals over patients."""
    return {
        each.name: Measure(*map(finite_or_none, each[1:]))
        for each in estimates.evaluate(samples, threshold)
        if each.name in _MEASURES
    }
