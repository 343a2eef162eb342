"""xenon-export --to torch: a run's nets as a folder for PyTorch, timm and the hub.

Owns the order of the work, and what the model card is told. Must not know the command
line.
"""

from __future__ import annotations

import logging
from pathlib import Path

from xenon_mx.commands import recognition
from xenon_mx.commands.recognition import Kind
from xenon_mx.config import ExportConfig, ReportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.inference import decisions, exported_properties
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.inference.torch_folder import (
    TorchFolder,
    check_replaceable,
    member_folder,
)
from xenon_mx.models import torch_config
from xenon_mx.reporting.torch_card import TorchCard, TorchMember
from xenon_mx.runs.folds_folder import OUT_OF_FOLD_CSV
from xenon_mx.runs.run_folder import VALIDATION_CSV, Run
from xenon_mx.runtime import mxnet, progress, text

_log = logging.getLogger(__name__)


def export(config: ExportConfig, bar: progress.Bar = progress.silent) -> int:
    """Write the ensemble of one run or several as a folder of PyTorch's weights.

    Args:
        config: The settings of `xenon-export`.
        bar: Shows the members done.

    Returns:
        The number of members in the folder.

    Raises:
        XenonError: A run cannot be used, torchvision lacks its net, or the folder
            cannot be written or holds something else; nothing is written then.
    """
    recognition.check_runs(config.runs, are_exported=True)
    _check_out(config.out)
    ensemble = RunEnsemble(config.runs, config.members)
    origin = outputs.made_from({"runs": ensemble.identities, "to": "torch"})
    check_replaceable(config.out, origin, config.overwrite)
    from xenon_mx.models import torch_weights  # loads MXNet

    for model in ensemble.models:
        torch_weights.check_model(model)
    decision = decisions.find(ensemble, is_exported=True)
    properties = exported_properties.build(ensemble, decision)
    card = _card(ensemble, properties["threshold"], decision is not None)
    readme = _readme(config, ensemble, card)
    with mxnet.failures(), TorchFolder(
        config.out, origin, config.overwrite
    ) as folder, bar(
        total=len(ensemble.members), unit="net", desc="exporting"
    ) as progress_bar:
        for number in range(1, len(ensemble.members) + 1):
            _add_member(folder, ensemble, number)
            progress_bar.update()
        folder.complete(readme, properties)
    return len(ensemble.members)


def _check_out(out: Path) -> None:
    """Raise an error if OUT is a file, or a folder of another kind."""
    if out.suffix == ".onnx":
        raise ConfigError(
            "OUT", f"{out} is named as a file: --to torch writes a folder"
        )
    given = recognition.what_is(out)
    if given not in (Kind.TORCH, Kind.FOLDER, Kind.EMPTY, Kind.NOTHING):
        raise XenonError(
            f"{text.folder_name(out)}: is {given.value}: name another folder for OUT"
        )


def _add_member(folder: TorchFolder, ensemble: RunEnsemble, number: int) -> None:
    """Write a member, and check that --pretrained takes it back as it was."""
    from xenon_mx.models import torch_weights, weight_files

    member, model = ensemble.members[number - 1], ensemble.models[number - 1]
    arrays = weight_files.read(member.params, member.sha256)
    preprocessing = ensemble.meta.preprocessing
    features = arrays["output.weight"].shape[1]
    file = folder.add_member(
        number,
        torch_config.build(model, preprocessing.size, preprocessing.fit, features),
        torch_weights.encode(model, arrays),
    )
    if not torch_weights.is_same(torch_weights.read_back(model, file), arrays):
        raise XenonError(
            f"{member.params}: its weights were changed by the export, so nothing was "
            f"written: please report this, with the versions of the packages"
        )


def _card(ensemble: RunEnsemble, threshold: float, is_decided: bool) -> TorchCard:
    """Return what the model card says of the files."""
    members = []
    for number, described in enumerate(ensemble.describe_members(), 1):
        name = torch_config.architecture(described["model"])
        epoch, loss = described["epoch"], described["loss"]
        members.append(TorchMember(member_folder(number), name, epoch, loss))
    size, fit = ensemble.meta.preprocessing.size, ensemble.meta.preprocessing.fit
    return TorchCard(members, size, fit, threshold, is_decided)


def _readme(config: ExportConfig, ensemble: RunEnsemble, card: TorchCard) -> str:
    """Return the model card: that of `xenon-report`, with a section on the files."""
    from xenon_mx.reporting import (  # load Matplotlib and Jinja2
        origin,
        page,
        page_context,
        results,
    )

    table = _table(config, ensemble)
    report = ReportConfig(None, table, gallery=0)
    found = origin.Origin(None, [Run.open(run.path) for run in ensemble.source().runs])
    if table is not None:
        found = origin.find(report)
    predicted = results.evaluate_predictions(report, found) if table else None
    context = page_context.build(report, found, predicted, card)
    context["title"] = _title(ensemble)
    for name, sentence in context["unfinished"]:
        _log.warning("%s: %s", name, sentence)
    return page.render(page.MODEL_CARD, context)


def _title(ensemble: RunEnsemble) -> str:
    models = sorted({torch_config.architecture(m) for m in ensemble.models})
    names = (run.name for run in ensemble.source().runs)
    return f"{', '.join(models)}: {', '.join(names)}"


def _table(config: ExportConfig, ensemble: RunEnsemble) -> Path | None:
    """Return the run's own table of exactly these members; None if there is none."""
    if len(config.runs) > 1:
        _log.warning("the model card has no results: these are several runs")
        return None
    name = OUT_OF_FOLD_CSV if ensemble.folds else VALIDATION_CSV
    table = config.runs[0] / name
    recorded = provenance.read(table)
    if recorded.provenance is None:
        _log.warning("the model card has no results: %s: %s", table, recorded.reason)
        return None
    if recorded.provenance.ensemble.sums() != ensemble.source().sums():
        _log.warning(
            "the model card has no results: %s is of other members: of %s",
            *(table, recorded.provenance.ensemble),
        )
        return None
    return table
