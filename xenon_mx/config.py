"""The settings of each command: every default, its range, its reason. Knows no disk.

One frozen dataclass a command is the only home of a default. The command line makes
its flags from these fields, so that a flag, its help and its check cannot drift apart.

"The paper" is Rajpurkar et al., MURA, arXiv 1712.06957v4.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from xenon_mx.errors import ConfigError

MEMBERS = 5  # the paper, section 3: the five models with the lowest losses
FITS = ("stretch", "pad")
# Mean and standard deviation of ImageNet's training images, RGB, on the scale 0-1:
# what the zoo's weights were trained with (gluoncv, torchvision).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# MXNet takes nothing but normal float32 numbers, of which 1.18e-38 is the smallest, and
# Adam's own rate is down to 0.152 times the learning rate (betas 0.9 and 0.999, in the
# 12th step).
SMALLEST_LR = 1e-37
THRESHOLD = 0.5  # the paper, section 3: abnormal if the probability is above 0.5


def setting(
    default: Any,
    help: str,  # noqa: A002 - click's own word for it
    *,
    kind: type | None = None,
    flags: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field that is a flag of the command line.

    Args:
        default: The value when the flag is not given.
        help: One sentence for `--help`.
        kind: The flag's type when `default` cannot tell it.
        flags: Other spellings, such as `-j`.
        choices: The only values allowed.
        low: The smallest value allowed.
        high: The largest value allowed.
    """
    metadata = {
        "help": help,
        "kind": kind or type(default),
        "flags": flags,
        "choices": choices,
        "low": low,
        "high": high,
    }
    return field(default=default, metadata=metadata)


def flag_name(name: str) -> str:
    """`batch_size` as the command line spells it: `--batch-size`."""
    return "--" + name.replace("_", "-")


class _Checked:
    """Refuses, when a config is made, what its fields do not allow."""

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]
            if each.metadata:
                _check(each, getattr(self, each.name))


def _check(each: Field[Any], value: Any) -> None:
    if value is None:
        return
    meta = each.metadata
    if meta["choices"] and value not in meta["choices"]:
        wanted = " or ".join(meta["choices"])
        raise ConfigError(flag_name(each.name), f"must be {wanted}, not {value!r}")
    if isinstance(value, float) and math.isinf(value):
        raise ConfigError(flag_name(each.name), f"must be finite, not {value}")
    low, high = meta["low"], meta["high"]
    # Written so that NaN, which compares with nothing, is refused too.
    if low is not None and not value >= low:
        raise ConfigError(flag_name(each.name), f"must be at least {low}, not {value}")
    if high is not None and not value <= high:
        raise ConfigError(flag_name(each.name), f"must be at most {high}, not {value}")


_REFERENCE = (
    "Compute by the plain way, to compare with: no fused layers, no memory kept from "
    "pass to pass, no operators side by side."
)
_OVERWRITE = (
    "Replace outputs that exist, also those that another program or another run wrote. "
    "An input is never replaced."
)
_ROOT = (
    "Folder that the paths in CSVs start from. Default: the working directory, else "
    "the CSV's folder, else its parent."
)


@dataclass(frozen=True)
class PackConfig(_Checked):
    """`xenon-pack SOURCE OUT`."""

    source: Path
    out: Path
    root: Path | None = setting(None, _ROOT, kind=Path)
    # 320: the paper, section 3. 32 is the least that every net of the zoo pools.
    size: int = setting(320, "Side of the packed square, px.", low=32, high=2048)
    # The paper scales to 320x320 and names no padding.
    fit: str = setting(
        "stretch",
        "Scale to the square, or keep the shape and pad with black.",
        choices=FITS,
    )
    encoding: str = setting(
        "jpg",
        "jpg is small; png is lossless and twice as large.",
        choices=("jpg", "png"),
    )
    # 95 is also the default of MXNet's im2rec.
    quality: int = setting(95, "JPEG quality; png has none.", low=1, high=100)
    holdout: float = setting(
        0.0,
        "Share of the training patients to set aside: training then chooses its "
        "five on them and leaves the validation set untouched.",
        low=0.0,
        high=0.9,
    )
    seed: int = setting(0, "Seed of the record order and of the holdout.", low=0)
    threads: int = setting(
        0, "Decoding threads; 0 uses every core.", flags=("-j",), low=0, high=256
    )
    skip_bad: bool = setting(
        False, "Leave unreadable images out, counted and recorded in pack.json."
    )
    overwrite: bool = setting(False, "Replace what OUT holds.")


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """`xenon-train PACKED RUN`."""

    packed: Path
    run: Path
    resume: bool = setting(
        False,
        "Go on with RUN where its last finished epoch left it, with its own settings. "
        "--epochs, --threads and --ctx may be others.",
    )
    # The paper, section 3: a 169-layer DenseNet with one output.
    model: str = setting(
        "densenet169", "A net of gluoncv's zoo; --list-models shows which."
    )
    # The paper, section 3: initialised from a model pretrained on ImageNet.
    pretrained: str | None = setting(
        None,
        "The first weights: a .params, .safetensors or .pth file; a run, for its best "
        "epoch; 'gluon' for MXNet's model store; 'hub' for Hugging Face's. Default: "
        "what 'gluon', then 'hub', has on this disk; then their servers, in this "
        "order.",
        kind=str,
    )
    no_pretrained: bool = setting(False, "Start from random weights instead.")
    freeze_epochs: int = setting(
        0,
        "Train the new last layer alone in the first epochs. The other layers, their "
        "BatchNorm statistics included, stay as they were pretrained.",
        low=0,
    )
    # The paper, section 3: weighted binary cross entropy.
    loss: str = setting(
        "weighted",
        "Binary cross entropy with the weights of each study type, or without.",
        choices=("weighted", "plain"),
    )
    pooled_weights: bool = setting(
        False, "One pair of weights for all study types together."
    )
    batch_size: int = setting(8, "Images a step.", low=1)  # the paper, section 3
    # The paper, section 3, too.
    lr: float = setting(1e-4, "Initial learning rate.", low=SMALLEST_LR, high=1.0)
    # Chosen here: on MURA the three learning rates below end a run well before 30.
    epochs: int = setting(30, "Epochs at most.", low=1)
    # The paper, section 3: decayed each time the loss plateaus after an epoch.
    patience: int = setting(
        1,
        "Epochs without a new best before the learning rate is divided by 10 "
        "(1 here is 0 in PyTorch's counting).",
        low=1,
    )
    min_delta: float = setting(
        0.0, "How much lower a validation loss must be to be a new best.", low=0.0
    )
    # Chosen here: 1e-4, 1e-5, 1e-6. Below, Adam moves a weight by less than 0.005 in
    # one of MURA's epochs (4,601 steps), and the five would be copies of one another.
    min_lr: float = setting(
        1e-6, "Training ends when the rate would fall below this.", low=0.0
    )
    seed: int = setting(0, "Seed of weights, order and augmentation.", low=0)
    threads: int = setting(
        1,
        "Decoding threads, each of which reads a part of the records of its own.",
        flags=("-j",),
        low=1,
        high=256,
    )
    ctx: str | None = setting(
        None,
        "Devices in MXNet's words: 'cpu()', 'gpu(0)', 'gpu(0),gpu(1)', or gpu0. "
        "Default: gpu(0) if it can be used, else cpu().",
        kind=str,
    )

    kvstore: str | None = setting(
        None,
        "Train with several workers, each with --batch-size images a step: MXNet's "
        "parameter server, as xenon-launch sets it up.",
        kind=str,
        choices=("dist_sync", "dist_device_sync"),
    )
    reference: bool = setting(False, _REFERENCE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is not None and self.no_pretrained:
            raise ConfigError("--no-pretrained", "contradicts --pretrained")
        if self.freeze_epochs and self.no_pretrained:
            raise ConfigError(
                "--freeze-epochs", "would freeze random weights: leave --no-pretrained"
            )
        if 0 < self.min_lr < SMALLEST_LR:
            raise ConfigError(
                "--min-lr", f"must be 0, or at least {SMALLEST_LR}, not {self.min_lr}"
            )
        if self.min_lr > self.lr:
            raise ConfigError("--min-lr", f"must not be above --lr {self.lr:g}")


@dataclass(frozen=True)
class PredictConfig(_Checked):
    """`xenon-predict INPUT... OUT --run RUN`."""

    inputs: tuple[Path, ...]
    out: Path
    runs: tuple[Path, ...]
    members: int = setting(
        MEMBERS, "How many nets to average: the lowest losses of all runs.", low=1
    )
    threshold: float = setting(
        THRESHOLD, "Abnormal if the probability is above it.", low=0.0, high=1.0
    )
    images: Path | None = setting(
        None, "Also write a row an image, with a column a member.", kind=Path
    )
    cam: Path | None = setting(
        None,
        "Also write where the nets looked: for every image an overlay and the class "
        "activation map itself, into a folder of their own.",
        kind=Path,
    )
    submission: bool = setting(
        False, "Write OUT as the MURA competition wants it: study,0 or study,1."
    )
    root: Path | None = setting(None, _ROOT, kind=Path)
    # 8 is what the nets were trained with; predictions do not depend on it.
    batch_size: int = setting(8, "Images a pass.", low=1)
    threads: int = setting(
        0, "Decoding threads; 0 uses every core.", flags=("-j",), low=0, high=256
    )
    ctx: str | None = setting(None, "Devices, as for xenon-train.", kind=str)
    overwrite: bool = setting(False, _OVERWRITE)
    reference: bool = setting(False, _REFERENCE)


@dataclass(frozen=True)
class ExportConfig(_Checked):
    """`xenon-export RUN... OUT.onnx`."""

    runs: tuple[Path, ...]
    out: Path
    members: int = setting(
        MEMBERS, "How many nets to put in: the lowest losses of all runs.", low=1
    )
    overwrite: bool = setting(False, _OVERWRITE)


@dataclass(frozen=True)
class ReportConfig(_Checked):
    """`xenon-report RUN [PREDICTIONS]`."""

    run: Path
    predictions: Path | None
    out: Path = setting(
        Path("report.html"), "The page to write.", kind=Path, flags=("-o",)
    )
    model_card: Path | None = setting(
        None, "Also write the facts as a model card, in Markdown.", kind=Path
    )
    images: Path | None = setting(
        None,
        "What xenon-predict --images wrote beside PREDICTIONS: its figures stand "
        "beside theirs, as of single images.",
        kind=Path,
    )
    figures: Path | None = setting(
        None, "Also write every figure with its interval, as a CSV.", kind=Path
    )
    threshold: float = setting(
        THRESHOLD,
        "The one that PREDICTIONS were made with: abnormal if above it.",
        low=0.0,
        high=1.0,
    )
    root: Path | None = setting(
        None,
        "Folder that the studies' paths start from, for their radiographs. Default: "
        "the working directory, else the folder of PREDICTIONS, else its parent.",
        kind=Path,
    )
    cam: Path | None = setting(
        None, "Folder of activation maps that xenon-predict --cam wrote.", kind=Path
    )
    # Chosen here: four of each of four outcomes are looked through in a minute.
    gallery: int = setting(
        4, "Studies of each outcome in the gallery at most.", low=0, high=100
    )
    overwrite: bool = setting(False, _OVERWRITE)


@dataclass(frozen=True)
class LaunchConfig(_Checked):
    """`xenon-launch -n WORKERS -- COMMAND`."""

    command: tuple[str, ...]
    workers: int = setting(2, "How many workers.", flags=("-n",), low=1, high=1000)
    servers: int = setting(
        1, "How many parameter servers share the work.", flags=("-s",), low=1, high=1000
    )
    hosts: Path | None = setting(
        None,
        "A file of hosts, one a line as ssh takes it; workers and servers take turns "
        "on them, in this folder. Without it, all run here.",
        kind=Path,
    )
    address: str | None = setting(
        None, "The address of this computer that the hosts reach it under.", kind=str
    )
    interface: str | None = setting(
        None,
        "The network interface that MXNet listens on, such as eth0; here alone, lo.",
        kind=str,
    )
    python: str | None = setting(
        None, "The Python of the servers. Default: this one.", kind=str
    )
