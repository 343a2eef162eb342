"""What the README and the docs tell users to type works when it is typed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
from safetensors.numpy import save_file
from support import hospital, mura_tree, paths
from support.page_examples import examples, needs_torch
from support.untrained import write_run

import xenon_mx
from xenon_mx import cli
from xenon_mx.evaluation import prediction_csv
from xenon_mx.models import network
from xenon_mx.runs.epoch_log import EpochRecord

PAGES = {
    path.relative_to(paths.ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]
}
EVERYTHING = "\n".join(PAGES.values())
PROGRAMS = Path(sys.executable).parent
# What a page's training is shortened to, and whose GPU it has.
SHORT = ["--model", "mobilenet0.25", "--no-pretrained", "--epochs", "1", "--lr", "1e-3"]
# What takes a network, a container or another computer, or is tested by itself.
ELSEWHERE = ("pip ", "hf ", "docker ", "tools/", "DMLC_ROLE", "unshare")


def commands(text):
    """The lines of a page's shell blocks, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines()]


def typed():
    """Every command line of the pages, also within a sentence: page, words."""
    found = []
    for page, text in PAGES.items():
        lines = [x for x in commands(text) if x.startswith("xenon-")]
        inline = re.findall(r"`(xenon-\w+ [^`]*--[^`]+)`", text)
        found += [(page, line) for line in [*lines, *inline]]
    return found


@pytest.mark.parametrize(("page", "line"), typed())
def test_a_command_line_parses(page, line, monkeypatch):
    name, *arguments = shlex.split(line)
    has_words = name not in ("xenon-launch", "xenon-doctor")
    if has_words and arguments[0].startswith("--"):
        arguments = ["a", "b", *arguments]  # a flag that a sentence is about
    # Some flags act at once and exit; whether they exist is enough here.
    at_once = {"--list-models", "--check", "--help"} & set(arguments)
    for param in cli.COMMANDS[name.split("-")[1]].params:
        if at_once & set(param.opts):
            monkeypatch.setattr(param, "callback", None)
    if name == "xenon-launch" and "--" not in arguments:
        arguments += ["--", "true"]
    command = cli.COMMANDS[name.split("-")[1]]
    context = command.make_context(name, arguments, resilient_parsing=bool(at_once))
    assert context.params


def test_every_command_has_its_line():
    named = {line.split()[0].split("-")[1] for _, line in typed()}
    assert named == set(cli.COMMANDS)


def test_flags_exist():
    known = {opt for c in cli.COMMANDS.values() for p in c.params for opt in p.opts}
    known |= {"--slow", "--torch", "--cuda", "--help", "--version"}
    known |= {"--compiled"}  # of tools/bench
    known |= {"--build-arg", "--gpus", "--rm"}  # docker's
    known |= {"--system-site-packages"}  # of python -m venv
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", EVERYTHING)) <= known


def test_files_that_are_named_exist():
    for name in re.findall(r"`((?:tools|tests|xenon_mx|docs)/[\w./]*)`", EVERYTHING):
        assert (paths.ROOT / name).exists(), name
    for page, text in PAGES.items():
        folder = (paths.ROOT / page).parent
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (folder / target).exists(), f"{page}: {target}"


def test_modules_that_are_named_exist():
    names = set(re.findall(r"`(xenon_mx(?:\.\w+)+)`", EVERYTHING))
    code = "import pkgutil, sys; [pkgutil.resolve_name(x) for x in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", code, *names], check=True)


def test_the_columns_that_are_named_are_written():
    one = xenon_mx.data.mura.parse(
        "MURA-v1.1/valid/XR_A/p/study1_positive/i.png", Path()
    )
    probabilities = np.full((1, 1), 0.5)
    studies = prediction_csv.studies_csv([one], probabilities, 0.5)
    images = prediction_csv.images_csv([one], probabilities, 0.5)
    for header in (studies.decode(), images.decode(), ",".join(EpochRecord._fields)):
        assert f"`{header.splitlines()[0]}" in EVERYTHING


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a small data set where the pages have MURA."""
    folder = tmp_path_factory.mktemp("world")
    root = folder / "data" / mura_tree.NAME
    pixels, _ = synthetic.labelled(24)
    for split, patients in (("train", range(8)), ("valid", range(11185, 11189))):
        studies = [
            mura_tree.Study(split, study_type, patient, patient % 2)
            for study_type in ("XR_ELBOW", "XR_HAND")
            for patient in patients
        ]
        mura_tree.write_images(
            root, studies, lambda file, n: cv2.imwrite(str(file), pixels[n])
        )
        mura_tree.write_csvs(root, split, studies)
    cv2.imwrite(str(folder / "image1.png"), synthetic.blobs(1, 48)[0])
    hospital.write_export(folder / "export", folder / "labels.csv")
    hospital.write_key(folder / "key")
    hospital.write_manifest(folder)
    write_readers(folder, root)
    return folder


def write_readers(folder, root):
    """Write what two readers say of the validation studies, with a gap."""
    lines = (root / "valid_labeled_studies.csv").read_text().split()
    studies = [line.split(",") for line in lines]
    rows = [
        f"{name},{label},{'' if i else 0}" for i, (name, label) in enumerate(studies)
    ]
    text = "\n".join(["study,Adler,Berg", *rows, ""])
    (folder / "readers.csv").write_text(text)


def small(line):
    """A page's command as a laptop can run it."""
    line = line.replace("gpu(0)", "cpu()")
    if line.startswith("xenon-pack") and "--check" not in line:
        line += " --size 32"
    if "xenon-doctor" in line:
        line += " --model mobilenet0.25 --size 32"
    if "xenon-train" in line:
        words = ["--epochs", "2"] if "--resume" in line else SHORT
        if "--amp" in line:  # by which a MobileNet would gain nothing
            words = [word.replace("mobilenet0.25", "resnet18_v1b") for word in words]
        if "--epochs 0" in line:
            words = SHORT[:2]
        line += " " + shlex.join([*words, "--ctx", "cpu()"])
    return line


def type_in(folder, line):
    """Run a line as a shell would."""
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    environment["XENON_KEY"] = str(folder / "key")
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def lived_in(world, tmp_path_factory):
    """The world after what the README's lines do."""
    folder = tmp_path_factory.mktemp("lived") / "in"
    shutil.copytree(world, folder)
    for line in commands(PAGES["README.md"]):
        if line.startswith("xenon-"):
            type_in(folder, small(line))
    return folder


def test_the_lines_of_the_readme_do_what_it_says(lived_in):
    for name in (
        "data/packed/train.rec",
        "runs/a/best.json",
        "valid.csv",
        "report.html",
    ):
        assert (lived_in / name).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if commands(PAGES[p])][1:])
def test_the_lines_of_a_page_can_be_typed(lived_in, tmp_path, page):
    folder = tmp_path / "copy"
    shutil.copytree(lived_in, folder)
    if page == "docs/deploy.md":
        (folder / "valid.csv").unlink()
        shutil.rmtree(folder / "runs" / "a")  # of a net that torchvision lacks
        write_run(folder / "runs" / "a", "resnet18_v1b", 32)
    if page in ("docs/distributed.md", "docs/training.md"):
        shutil.rmtree(folder / "runs")
    if page == "docs/training.md":
        net = network.state_dict(network.build(SHORT[1]))
        save_file(net, folder / "net.safetensors")
    if page == "docs/decide.md":
        write_patients(folder)
    for line in commands(PAGES[page]):
        if line and not line.startswith(ELSEWHERE) and "--hosts" not in line:
            line = small(line)
            if page == "docs/decide.md":  # which needs a net that has learned something
                line = line.replace(
                    "--epochs 1 --lr 1e-3", "--epochs 4 --lr 1e-2 --patience 9"
                )
            type_in(folder, line)


def write_patients(folder):
    """Write a data set with as many patients as a promise needs."""
    root = folder / "data" / mura_tree.NAME
    shutil.rmtree(root)
    pixels, _ = synthetic.labelled(500)
    for split, patients in (("train", range(500)), ("valid", range(11185, 11225))):
        studies = [
            mura_tree.Study(split, "XR_HAND", patient, number % 2)
            for number, patient in enumerate(patients)
        ]
        mura_tree.write_images(
            root, studies, lambda file, n: cv2.imwrite(str(file), pixels[n])
        )
        mura_tree.write_csvs(root, split, studies)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(PAGES[page])])
def test_the_python_of_a_page_runs(lived_in, monkeypatch, page):
    monkeypatch.chdir(lived_in)
    if page == "docs/deploy.md":
        words = ["runs/a", "ensemble.onnx", "--overwrite"]
        cli.COMMANDS["export"].main(words, standalone_mode=False)
    names: dict = {}
    for example in examples(PAGES[page]):
        exec(example, names)  # noqa: S102 - the page's own words
    for name, shape in (("logit", (1, 1)), ("pooled", (1, 1024))):
        assert name not in names or names[name].shape == shape


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of these packages
@pytest.mark.filterwarnings("ignore:Data has no positive values")  # no learning rate
def test_the_pytorch_of_a_page_runs(world, tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "a", "densenet121", 64, members=1)
    shutil.copy(world / "image1.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in (["ensemble.onnx"], ["a-torch", "--to", "torch"]):
        cli.COMMANDS["export"].main(["runs/a", *words], standalone_mode=False)
    names: dict = {}
    found = []
    for example in examples(PAGES["docs/deploy.md"], with_torch=True):
        exec(example.replace("densenet169", "densenet121"), names)  # noqa: S102
        if needs_torch(example):
            square = names["fit_square"](
                names["read_gray"]("image1.png"), 64, "stretch"
            )
            scaled = names["torch"].from_numpy(square) / 255
            batch = ((scaled - names["mean"]) / names["std"])[None]
            found.append(names["net"](batch).sigmoid().item())
    assert len(found) == 2
    expected = names["predict_study"](["image1.png"])  # by the ONNX file
    assert [names["probability"], *found] == pytest.approx([expected] * 3, abs=1e-5)


@pytest.mark.parametrize(
    "word", ["predicted (?:ab)?normal", "colors? (?:keys?|of)", "grey"]
)
def test_a_word_that_the_glossary_replaces_is_not_used(word):
    """In the package and the pages, also where a line ends within the words."""
    package = (paths.ROOT / "xenon_mx").rglob("*.*")
    pages = [*(paths.ROOT / "docs").glob("*.md"), paths.ROOT / "README.md"]
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in [*package, *pages]
        if path.suffix in (".py", ".md", ".html") and path.name != "glossary.md"
    }
    pattern = re.compile(rf"\b{word}\b".replace(" ", r"\s+"), re.IGNORECASE)
    assert not [name for name, text in texts.items() if pattern.search(text)]


def test_nothing_placed_by_hand_is_left_open():
    assert not re.findall(r"@[A-Z_]+@|TODO|EXAMPLE", EVERYTHING)
