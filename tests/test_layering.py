"""Layers: a package imports only from those below it, and some things only once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xenon_mx

PACKAGE = Path(xenon_mx.__file__).parent

# From the highest layer to the lowest; CONTRIBUTING.md has the same order.
ORDER = tuple(
    "__main__ main cli options exit_status console api ensemble arguments commands "
    "diagnosis reporting inference training distributed runs evaluation models data "
    "dicom formats runtime config settings errors __init__".split()
)
# Other people's packages, and the modules, or all of a package, that alone import them.
OWNERS = {
    "mxnet": {"runtime.mxnet"},
    "gluoncv": {"runtime.mxnet"},
    "cv2": {"runtime.opencv"},
    "click": {"cli", "options", "exit_status", "console"},
    "simplejpeg": {"formats.jpeg"},
    "isal": {"formats.compression"},
    "pydicom": {"dicom.reader", "dicom.decoders"},
    "onnx": {"inference.onnx_graph"},
    "onnxruntime": {"inference.onnxruntime_library"},
    "openvino": {"inference.openvino_library"},
    "matplotlib": {"reporting.plot_style"},
    "jinja2": {"reporting.page"},
    "markupsafe": {"reporting.page"},
}


def modules() -> dict[str, Path]:
    """Every module by its name below xenon_mx; a package by its own."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name or "__init__"] = path
    return found


MODULES = modules()


def imports(module: str) -> set[str]:
    """Every name that a module of the package imports, in full."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for name in imports(module):
        if name.split(".")[0] == "xenon_mx":
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in MODULES:
                parts.pop()
            found.add(".".join(parts) or "__init__")
    return found


def package(module: str) -> str:
    return module.split(".")[0]


def test_every_package_has_its_place():
    assert {package(name) for name in MODULES} == set(ORDER)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_imports_go_one_way(module):
    for other in inner(module):
        above, below = ORDER.index(package(module)), ORDER.index(package(other))
        assert above <= below, f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in inner(name) - {name, "__init__"}:
                visit(other, (*path, name))
            done.add(name)

    for name in set(MODULES) - {"__init__"}:  # which imports when it is asked
        visit(name, ())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_some_packages_are_imported_in_one_place(module):
    for name in imports(module):
        owners = OWNERS.get(name.split(".")[0])
        is_owner = owners is None or {module, package(module)} & owners
        assert is_owner, f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_json_is_written_with_the_words_nan_and_infinity(module):
    """Other programs refuse them; a checksum is compared with what Python once read."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "dumps":
            (allow,) = [k.value.value for k in node.keywords if k.arg == "allow_nan"]
            assert not allow or "sort_keys" in {k.arg for k in node.keywords}


@pytest.mark.parametrize(
    "command", ["pack", "train", "predict", "export", "report", "launch", "doctor"]
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
