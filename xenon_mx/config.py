"""The settings of each command: one frozen dataclass per command.

Owns every default, its range, its help text and its reason; the command line makes its
options from these fields. Must not know files or the command line, nor how a setting is
checked.

"The paper" is Rajpurkar et al., MURA, arXiv 1712.06957v4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenon_mx.errors import ConfigError
from xenon_mx.settings import Checked, flag_name, setting

MEMBERS = 5  # the paper, section 3: the five models with the lowest losses
FITS = ("stretch", "pad")
EXPORTS = ("onnx", "torch")
# Mean and standard deviation of ImageNet's training images, RGB, scaled to 0-1, as used
# for the pretrained weights of gluoncv and torchvision.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# MXNet accepts only normal float32 numbers, the smallest of which is 1.18e-38. Adam's
# bias-corrected rate falls to 0.152 times the learning rate (at step 12, with betas 0.9
# and 0.999).
SMALLEST_LR = 1e-37
VALID_SHARE = 0.1  # of the patients, where SOURCE tells no splits; chosen here
# What computes predictions, and in which precision: `inference.engines`.
RUNTIMES = ("mxnet", "onnxruntime", "openvino")
PRECISIONS = ("f32", "bf16")
THRESHOLD = 0.5  # the paper, section 3: abnormal if the probability is above 0.5

_REFERENCE = (
    "Compute without optimizations, for comparison: no fused layers, no reused memory, "
    "no operators in parallel."
)
_OVERWRITE = (
    "Replace existing outputs, even those of another program or another run. An input "
    "is never replaced."
)
_ROOT = (
    "Folder to which the paths in a CSV are relative. Default: the CSV's folder, its "
    "parent or the working directory, the first that holds any of the files."
)


_LABELS = (
    "Labels of an archive's studies: a CSV with the columns label and one of study "
    "(StudyInstanceUID), accession and image."
)
_LINK = (
    "For an archive: also write FILE, which tells UIDs, accession number and path of "
    "each pseudonym."
)
_BODY_PARTS = (
    "For an archive: a CSV with the columns body_part and study_type, to add to or "
    "change the study types of body parts."
)
_KEEP_IDENTIFIERS = (
    "For an archive: name patients, studies and images by their identifiers instead of "
    "by pseudonyms."
)
# The settings of xenon-train that say how a net is trained, and nothing else.
_OF_TRAINING = (
    *("no_pretrained", "freeze_epochs", "amp", "lr", "patience", "min_delta", "min_lr"),
    *("folds", "kvstore"),
)
# The settings that only an archive has.
ARCHIVE_SETTINGS = ("labels", "link", "body_parts", "keep_identifiers")


@dataclass(frozen=True)
class PackConfig(Checked):
    """`xenon-pack SOURCE OUT`."""

    source: Path
    out: Path
    root: Path | None = setting(None, _ROOT, kind=Path)
    # 320: the paper, section 3. 32 is the smallest input of all nets.
    size: int = setting(320, "Side of the packed square images, px.", low=32, high=2048)
    # The paper scales to 320x320 and mentions no padding.
    fit: str = setting(
        "stretch",
        "Stretch each image to the square, or keep its aspect ratio and pad with "
        "black.",
        choices=FITS,
    )
    encoding: str = setting(
        "jpg",
        "Encoding of the packed images; png is lossless and twice as large.",
        choices=("jpg", "png"),
    )
    # 95 is also the default of MXNet's im2rec.
    quality: int = setting(95, "JPEG quality; not used for png.", low=1, high=100)
    labels: Path | None = setting(None, _LABELS, kind=Path)
    skip_unlabelled: bool = setting(
        False,
        "For an archive: leave out studies without a label and labels without a study.",
    )
    link: Path | None = setting(None, _LINK, kind=Path)
    body_parts: Path | None = setting(None, _BODY_PARTS, kind=Path)
    keep_identifiers: bool = setting(False, _KEEP_IDENTIFIERS)
    valid: float | None = setting(
        None,
        "Fraction of the patients to validate on, for an archive, or a manifest, "
        "without a column 'split'. Default: 0.1.",
        kind=float,
        low=0.0,
        high=0.9,
    )
    holdout: float = setting(
        0.0,
        "Fraction of the training patients for a tuning set: a split of its own whose "
        "loss lowers the learning rate and chooses the checkpoints. The valid split is "
        "then a test set, which training never reads.",
        low=0.0,
        high=0.9,
    )
    calibration: float = setting(
        0.0,
        "Fraction of the training patients left after --holdout for a split of its "
        "own, to calibrate probabilities and to decide thresholds on: nothing of "
        "training ever reads it.",
        low=0.0,
        high=0.9,
    )
    seed: int = setting(
        0,
        "Seed of the record order, and of which patients --valid, --holdout and "
        "--calibration set aside.",
        low=0,
    )
    threads: int = setting(
        0, "Decoding threads; 0 uses every core.", flags=("-j",), low=0, high=256
    )
    skip_bad: bool = setting(
        False, "Leave out unreadable images, and list them in pack.json."
    )
    overwrite: bool = setting(False, "Replace the packed folder in OUT.")


@dataclass(frozen=True)
class TrainConfig(Checked):
    """`xenon-train PACKED RUN`."""

    packed: Path
    run: Path
    resume: bool = setting(
        False,
        "Resume RUN after its last finished epoch, with its recorded settings. Only "
        "--epochs, --threads and --ctx may differ.",
    )
    # The paper, section 3: a 169-layer DenseNet with one output.
    model: str = setting(
        "densenet169", "Net of gluoncv's model zoo; see --list-models."
    )
    # The paper, section 3: initialised from a model pretrained on ImageNet.
    pretrained: str | None = setting(
        None,
        "Initial weights: a .params, .safetensors or .pth file; a run, for its best "
        "epoch; a folder of model.safetensors and config.json; 'gluon' for MXNet's "
        "model store; 'hub' for the Hugging Face hub. "
        "Default: the local files of 'gluon', then of 'hub', then their servers.",
        kind=str,
    )
    pretrained_input: str | None = setting(
        None,
        "The input that the net of a weights file was trained on: imagenet; xrv, of "
        "torchxrayvision; half, from -1 to 1, as of RadImageNet; or A,B for A * g + B "
        "of the gray value g from 0 to 1. Default: what the file's layout tells.",
        kind=str,
    )
    no_pretrained: bool = setting(False, "Start from random weights.")
    freeze_epochs: int = setting(
        0,
        "Number of first epochs that train only the new last layer. The other layers, "
        "including their BatchNorm statistics, stay as pretrained.",
        low=0,
    )
    # The paper, section 3: weighted binary cross entropy.
    loss: str = setting(
        "weighted",
        "Binary cross-entropy, weighted by the class weights of each study type, or "
        "unweighted.",
        choices=("weighted", "plain"),
    )
    pooled_weights: bool = setting(
        False, "Use one pair of class weights for all study types."
    )
    batch_size: int = setting(8, "Images per step.", low=1)  # the paper, section 3
    amp: bool = setting(
        False,
        "Mixed precision: compute in bfloat16 on a CPU that has it, in float16 on a "
        "GPU. Faster, with slightly other results; weights and validation stay "
        "float32.",
    )
    # The paper, section 3.
    lr: float = setting(1e-4, "Initial learning rate.", low=SMALLEST_LR, high=1.0)
    # Chosen here: on MURA, the three learning rates below end a run well before 30.
    epochs: int = setting(
        30,
        "Largest number of epochs. 0 trains nothing: the net of --pretrained, with one "
        "logit, is validated and becomes the run's one member.",
        low=0,
    )
    # The paper, section 3: decayed each time the loss plateaus after an epoch.
    patience: int = setting(
        1,
        "Epochs without a new lowest validation loss before the learning rate is "
        "divided by 10. 1 here is patience=0 in PyTorch.",
        low=1,
    )
    min_delta: float = setting(
        0.0,
        "Smallest decrease of the validation loss that counts as a new lowest.",
        low=0.0,
    )
    # Chosen here: the rates are 1e-4, 1e-5, 1e-6. At a lower rate, Adam moves a weight
    # by less than 0.005 per epoch of MURA (4,601 steps), and the best epochs would be
    # near copies.
    min_lr: float = setting(
        1e-6, "Training ends when the learning rate would fall below this.", low=0.0
    )
    folds: int | None = setting(
        None,
        "Cross-validate: train as many runs, RUN/fold-1 and so on, each without one "
        "part of the training patients, which it predicts.",
        kind=int,
        low=2,
        high=20,
    )
    seed: int = setting(
        0, "Seed of initial weights, image order, augmentation and folds.", low=0
    )
    threads: int = setting(
        1,
        "Decoding threads; each reads its own part of the records.",
        flags=("-j",),
        low=1,
        high=256,
    )
    ctx: str | None = setting(
        None,
        "Devices as MXNet contexts: 'cpu()', 'gpu(0)', 'gpu(0),gpu(1)', or gpu0. "
        "Default: gpu(0) if it can be used, else cpu().",
        kind=str,
    )
    kvstore: str | None = setting(
        None,
        "MXNet's key-value store for several workers, which xenon-launch starts. Each "
        "worker trains on --batch-size images per step.",
        kind=str,
        choices=("dist_sync", "dist_device_sync"),
    )
    reference: bool = setting(False, _REFERENCE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs == 0:
            self._check_nothing_is_trained()
        if self.pretrained is not None and self.no_pretrained:
            raise ConfigError("--no-pretrained", "contradicts --pretrained")
        if self.pretrained_input is not None and self.no_pretrained:
            raise ConfigError("--pretrained-input", "contradicts --no-pretrained")
        if self.freeze_epochs and self.no_pretrained:
            raise ConfigError(
                "--freeze-epochs", "would freeze random weights: omit --no-pretrained"
            )
        if 0 < self.min_lr < SMALLEST_LR:
            raise ConfigError(
                "--min-lr", f"must be 0, or at least {SMALLEST_LR}, not {self.min_lr}"
            )
        if self.min_lr > self.lr:
            raise ConfigError("--min-lr", f"must not be above --lr {self.lr:g}")
        if self.folds is not None and self.kvstore is not None:
            raise ConfigError(
                "--folds", "contradicts --kvstore: one worker trains all folds in turn"
            )

    def _check_nothing_is_trained(self) -> None:
        """Check that no setting contradicts --epochs 0, or has no effect with it."""
        if self.pretrained is None:
            raise ConfigError(
                "--epochs",
                "0 keeps a net that was trained elsewhere: name its file with "
                "--pretrained",
            )
        for name in _OF_TRAINING:
            if getattr(self, name) != getattr(type(self), name):
                reason = "has no effect with --epochs 0, which trains nothing"
                raise ConfigError(flag_name(name), reason)


@dataclass(frozen=True)
class PredictConfig(Checked):
    """`xenon-predict INPUT... OUT --run RUN`."""

    inputs: tuple[Path, ...]
    out: Path
    runs: tuple[Path, ...]
    members: int | None = setting(
        None,
        "Number of members whose probabilities are averaged: the checkpoints with the "
        f"lowest validation losses of all runs. Default: {MEMBERS}. Of folds, the "
        "number of each fold; default: 1.",
        kind=int,
        low=1,
    )
    threshold: float | None = setting(
        None,
        "A study is abnormal if its probability is above this. Default: what "
        f"xenon-decide decided for the run, else {THRESHOLD}.",
        kind=float,
        low=0.0,
        high=1.0,
    )
    images: Path | None = setting(
        None,
        "Also write a CSV with one row per image, and one column per member.",
        kind=Path,
    )
    cam: Path | None = setting(
        None,
        "Also write a folder of class activation maps: for each image an overlay "
        "(PNG) and the map (NumPy).",
        kind=Path,
    )
    submission: bool = setting(
        False,
        "Write OUT in the format of the MURA competition: study,0 or study,1.",
    )
    root: Path | None = setting(None, _ROOT, kind=Path)
    labels: Path | None = setting(None, _LABELS, kind=Path)
    link: Path | None = setting(None, _LINK, kind=Path)
    body_parts: Path | None = setting(None, _BODY_PARTS, kind=Path)
    keep_identifiers: bool = setting(False, _KEEP_IDENTIFIERS)
    skip_bad: bool = setting(
        False,
        "Leave out images that cannot be read or show nothing, and list them in the "
        "file beside OUT. A study is predicted by its other images.",
    )
    # The default of training; predictions do not depend on it.
    batch_size: int = setting(8, "Images per forward pass.", low=1)
    threads: int = setting(
        0, "Decoding threads; 0 uses every core.", flags=("-j",), low=0, high=256
    )
    ctx: str | None = setting(None, "Devices, as for xenon-train.", kind=str)
    # Whatever is installed, so that the same command gives the same digits.
    runtime: str | None = setting(
        None,
        "What computes the nets. Default: mxnet for runs, onnxruntime for an ONNX "
        "file. For the other two, a run is exported once, into $XDG_CACHE_HOME/xenon. "
        "openvino uses CPUs only.",
        kind=str,
        choices=RUNTIMES,
    )
    precision: str = setting(
        "f32",
        "Precision of the arithmetic. bf16 needs --runtime openvino and a processor "
        "that has it: about twice as fast, with probabilities that differ in the third "
        "digit.",
        choices=PRECISIONS,
    )
    overwrite: bool = setting(False, _OVERWRITE)
    reference: bool = setting(False, _REFERENCE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "f32":
            return
        if self.runtime != "openvino":
            reason = {
                None: "give --runtime openvino",
                "mxnet": "mxnet gains nothing by it: give --runtime openvino",
                "onnxruntime": "onnxruntime has none on CPUs: give --runtime openvino",
            }[self.runtime]
            raise ConfigError("--precision", f"bf16: {reason}")
        if self.reference:
            raise ConfigError("--precision", "bf16 contradicts --reference")


@dataclass(frozen=True)
class DecideConfig(Checked):
    """`xenon-decide RUN TABLE.csv`."""

    run: Path
    table: Path
    sensitivity: float | None = setting(
        None,
        "Decide the threshold of prediction: the one that leaves the most specificity "
        "of those whose sensitivity is at least this share (0.5 to 0.999), with 95% "
        "confidence over patients.",
        kind=float,
        low=0.5,
        high=0.999,
    )
    specificity: float | None = setting(
        None, "The same for the specificity.", kind=float, low=0.5, high=0.999
    )
    best: str | None = setting(
        None,
        "Decide the threshold with the best kappa, which promises nothing.",
        kind=str,
        choices=("kappa",),
    )
    refer: float | None = setting(
        None,
        "Add a third answer, refer: of the patients with an abnormal study, at most "
        "this share (0.001 to 0.5) is to have one called normal, and the other way "
        "around, on average. If nothing else decides the threshold of prediction, it "
        "is moved from 0.5 as far as refers the fewest studies.",
        kind=float,
        low=0.001,
        high=0.5,
    )
    temperature: bool = setting(
        False, "Calibrate by one number, the temperature, instead of two."
    )
    overwrite: bool = setting(
        False, "Replace RUN/decision.json, even if it was changed by hand."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [
            f"--{name}"
            for name in ("sensitivity", "specificity", "best")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ConfigError(
                given[1], f"contradicts {given[0]}: there is one threshold"
            )


@dataclass(frozen=True)
class ExportConfig(Checked):
    """`xenon-export RUN... OUT`."""

    runs: tuple[Path, ...]
    out: Path
    to: str = setting(
        "onnx",
        "What OUT is: 'onnx' for one ONNX file of the whole ensemble; 'torch' for a "
        "folder of weights that torchvision and timm load, and that can be uploaded to "
        "the Hugging Face hub.",
        choices=EXPORTS,
    )
    members: int | None = setting(
        None,
        "Number of members to export: the checkpoints with the lowest validation "
        f"losses of all runs. Default: {MEMBERS}. Of folds, the number of each fold; "
        "default: 1.",
        kind=int,
        low=1,
    )
    overwrite: bool = setting(False, _OVERWRITE)


@dataclass(frozen=True)
class ReportConfig(Checked):
    """`xenon-report RUN [PREDICTIONS]`, or `xenon-report PREDICTIONS`."""

    run: Path | None
    predictions: Path | None
    out: Path = setting(
        Path("report.html"), "The HTML page to write.", kind=Path, flags=("-o",)
    )
    model_card: Path | None = setting(
        None, "Also write a model card, in Markdown.", kind=Path
    )
    images: Path | None = setting(
        None,
        "The CSV that xenon-predict --images wrote with PREDICTIONS, for metrics over "
        "images beside those over studies.",
        kind=Path,
    )
    figures: Path | None = setting(
        None, "Also write every metric with its interval, as a CSV.", kind=Path
    )
    threshold: float | None = setting(
        None,
        "The --threshold that PREDICTIONS was made with. Default: the one in its "
        f"record, else {THRESHOLD}.",
        kind=float,
        low=0.0,
        high=1.0,
    )
    prevalence: float | None = setting(
        None,
        "Also show PPV and NPV where this share of the studies is abnormal: above 0 "
        "and below 1, such as 0.1.",
        kind=float,
    )
    against: Path | None = setting(
        None,
        "A table of another ensemble for the same studies: also show the differences "
        "between PREDICTIONS and it, with intervals and p-values.",
        kind=Path,
    )
    readers: Path | None = setting(
        None,
        "What readers say of the same studies, a CSV with the columns study and one of "
        "each reader (1, 0, or empty): also compare them with PREDICTIONS.",
        kind=Path,
    )
    margin: float | None = setting(
        None,
        "With --against or --readers: also show where PREDICTIONS are worse by less "
        "than this, such as 0.05 (non-inferiority).",
        kind=float,
        high=1.0,
    )
    root: Path | None = setting(
        None,
        "Folder to which the studies' paths are relative, to find their radiographs. "
        "Default: the folder of PREDICTIONS, its parent or the working directory, the "
        "first that holds any of them.",
        kind=Path,
    )
    link: Path | None = setting(
        None,
        "The link file of an archive, or the manifest, by which the studies' "
        "radiographs are found.",
        kind=Path,
    )
    cam: Path | None = setting(
        None,
        "Folder of class activation maps that xenon-predict --cam wrote.",
        kind=Path,
    )
    # Chosen here: four studies of each of four outcomes can be viewed in a minute.
    gallery: int = setting(
        4, "Largest number of studies per outcome in the gallery.", low=0, high=100
    )
    overwrite: bool = setting(False, _OVERWRITE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ConfigError(
                "--prevalence", f"must be above 0 and below 1, not {self.prevalence:g}"
            )
        if self.margin is not None and not self.margin > 0:
            raise ConfigError("--margin", f"must be above 0, not {self.margin:g}")


@dataclass(frozen=True)
class LaunchConfig(Checked):
    """`xenon-launch -n WORKERS -- COMMAND`."""

    command: tuple[str, ...]
    workers: int = setting(2, "Number of workers.", flags=("-n",), low=1, high=1000)
    servers: int = setting(
        1, "Number of parameter servers.", flags=("-s",), low=1, high=1000
    )
    hosts: Path | None = setting(
        None,
        "A file with one ssh host per line. Workers and servers are distributed over "
        "the hosts in turn, and run in the same folder there. Default: all run on this "
        "computer.",
        kind=Path,
    )
    address: str | None = setting(
        None, "The address by which the hosts reach this computer.", kind=str
    )
    interface: str | None = setting(
        None,
        "The network interface that MXNet listens on, such as eth0. Default without "
        "--hosts: lo.",
        kind=str,
    )
    python: str | None = setting(
        None, "The Python that runs the servers. Default: this one.", kind=str
    )


@dataclass(frozen=True)
class DoctorConfig(Checked):
    """`xenon-doctor`."""

    model: str = setting(TrainConfig.model, "Net to compute, as for xenon-train.")
    size: int = setting(
        PackConfig.size, "Side of its square input, px.", low=32, high=2048
    )
    batch_size: int = setting(TrainConfig.batch_size, "Images per step.", low=1)
    ctx: str | None = setting(
        None,
        "Devices, as for xenon-train. Default: every GPU; cpu() if there is none.",
        kind=str,
    )
    out: Path = setting(
        Path("doctor.txt"),
        "The file to write. The disk of its folder is the one that is checked.",
        kind=Path,
        flags=("-o",),
    )
    overwrite: bool = setting(False, _OVERWRITE)
