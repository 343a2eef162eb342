"""The commands that messages give to install what is missing."""

from __future__ import annotations

import re

from support import paths

from xenon_mx.runtime import extras

# As in the README, whose commands tests run.
USED = re.compile(r"""extras\.install\(["'](\w+)["']\)""")
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
