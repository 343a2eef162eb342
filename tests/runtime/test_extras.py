"""The commands that messages give to install what is missing."""

from __future__ import annotations

import re

import pytest
from support import paths

from xenon_mx.errors import XenonError
from xenon_mx.runtime import extras

# As in the README, whose commands tests run.
USED = re.compile(r"""extras\.(?:install|load)\((?:"[^"]*", )*["'](\w+)["']\)""")
SOURCES = [*paths.ROOT.glob("xenon_mx/**/*.py"), *paths.ROOT.glob("tools/**/*.py")]


def test_every_extra_that_a_message_names_is_one_of_setup_py():
    setup = (paths.ROOT / "setup.py").read_text()
    named = {extra for file in SOURCES for extra in USED.findall(file.read_text())}
    assert len(named) >= 7
    for extra in named:
        assert f'"{extra}": ' in setup


def test_no_message_sends_to_an_index_that_does_not_have_xenon():
    for file in SOURCES:
        assert "xenon-mx[" not in file.read_text(), file
    readme = (paths.ROOT / "README.md").read_text()
    assert extras.install("cpu").startswith("pip install '.[cpu]'")
    assert "pip install '.[cpu]'" in readme


def test_a_library_is_loaded_or_named_with_the_line_that_installs_it(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "whole_library.py").write_text("VALUE = 7")
    (tmp_path / "broken_library.py").write_text("raise ImportError('libx.so.1')")
    (tmp_path / "needy_library.py").write_text("import missing_part")
    assert extras.load("whole_library", "Whole", "onnx").VALUE == 7
    for package, said in (
        ("no_library", "no_library is not installed: pip install '.[onnx]'"),
        ("needy_library", "missing_part is not installed: pip install '.[onnx]'"),
        ("broken_library", "Broken cannot be loaded: libx.so.1; reinstall it: pip"),
    ):
        with pytest.raises(XenonError) as caught:
            extras.load(package, "Broken", "onnx")
        assert str(caught.value).startswith(said)
