"""The house: a module imports only from rows below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xenon_mx

PACKAGE = Path(xenon_mx.__file__).parent

ROWS = {
    0: {
        "__init__",
        "errors",
        "progress",
        "signals",
        "words",
        "parallel",
        "torch_names",
        "reference_figures",
        "metrics",
        "mura",
        "guard",
    },
    1: {
        "config",
        "handlers",
        "recordio",
        "files",
        "figures",
        "dicom_headers",
        "dicom_streams",
        "dicom_decoders",
        "tables",
        "cluster",
        "events",
        "memory",
        "streams",
    },
    2: {
        "arrays",
        "bootstrap",
        "cases",
        "dicom_grays",
        "engine",
        "opencv",
        "outputs",
        "staging",
    },
    3: {"records", "losses", "workers", "roles", "evaluation", "dicom"},
    4: {
        "images",
        "datasets",
        "checkpoints",
        "models",
        "pipeline",
        "optimizers",
        "comparisons",
    },
    5: {"maps", "inputs", "sources", "histories", "drawings"},
    6: {"mapping", "passes", "onnx_ensembles"},
    7: {"ensembles", "onnx_graphs", "loops", "gallery"},
    8: {"findings"},
    9: {"packing", "training", "predicting", "exporting", "reporting", "launching"},
    10: {"cli"},
    11: {"main"},
}
ROW = {name: row for row, names in ROWS.items() for name in names}
DOORS = {
    "mxnet": {"engine"},
    "gluoncv": {"engine"},
    "cv2": {"opencv"},
    "click": {"cli"},
    "pydicom": {"dicom", "dicom_decoders"},
    "onnx": {"onnx_graphs"},
    "onnxruntime": {"onnx_ensembles"},
    "matplotlib": {"figures"},
    "jinja2": {"reporting"},
    "markupsafe": {"reporting"},
}


def imports(module: str) -> set[str]:
    """Every module that a module of the package imports, in full."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_a_row():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ROW)


@pytest.mark.parametrize("module", sorted(ROW))
def test_a_module_imports_from_smaller_rows_only(module):
    for name in imports(module):
        parts = name.split(".")
        if parts[0] != "xenon_mx":
            continue
        other = parts[1] if parts[1] in ROW else "__init__"
        assert ROW[other] < ROW[module], f"{module} imports {other}"


@pytest.mark.parametrize("module", sorted(ROW))
def test_some_packages_have_one_door(module):
    for name in imports(module):
        door = DOORS.get(name.split(".")[0])
        assert door is None or module in door, f"{module} imports {name}"


@pytest.mark.parametrize(
    "command", ["pack", "train", "predict", "export", "report", "launch"]
)
def test_help_imports_neither_mxnet_nor_anything_else_that_is_slow(command):
    script = f"""
import sys
from xenon_mx import cli
sys.argv = ["xenon-{command}", "--help"]
try:
    cli.{command}()
except SystemExit as stop:
    assert stop.code == 0
slow = {{"mxnet", "pandas", "sklearn", "numpy", "cv2", "pydicom", "onnxruntime"}}
slow |= {{"matplotlib", "jinja2"}}
slow &= set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
