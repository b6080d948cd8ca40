"""The distribution has its own name and holds what users and type checkers need."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.resources import files
from pathlib import Path

import pytest

import pcloud
from pcloud.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
NAME = "pcloud-hep"
SOURCES = ["README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"]
FOLDERS = {"docs": "*.md", "examples": "*.*", "benchmarks": "*.py", "pcloud": "*.py"}


@pytest.fixture(scope="module")
def installed():
    try:
        return distribution(NAME)
    except PackageNotFoundError:
        pytest.skip(f"{NAME} is not installed: pip install --editable '.[dev]'")


def texts():
    for name in SOURCES:
        yield name, (ROOT / name).read_text()
    for folder, pattern in FOLDERS.items():
        for path in (ROOT / folder).rglob(pattern):
            yield str(path), path.read_text()


def test_the_version_of_the_package_is_that_of_the_distribution(installed):
    assert installed.metadata["Name"] == NAME
    assert installed.version == pcloud.__version__


def test_extras_ask_for_no_other_project(installed):
    requirements = installed.requires
    assert {"sim", "trust", "onnx", "dev"} <= set(installed.metadata.get_all("Provides-Extra"))
    assert not [r for r in requirements if re.match(r"pcloud\b(?!-hep)", r)]
    for package in ("onnx", "onnxscript", "onnxruntime"):
        extras = [r for r in requirements if re.match(rf"{package}\b", r)]
        assert [r for r in extras if "dev" in r]


def test_the_command_is_that_of_the_package(installed):
    (command,) = (e for e in installed.entry_points if e.group == "console_scripts")
    assert command.name == "pcloud"
    from pcloud.cli import main

    assert command.load() is main


def test_lgatr_finds_our_attention():
    found = entry_points(group="lgatr.primitives.attention_backends", name="pcloud")
    from pcloud.nn.attention import lgatr_backend

    assert found
    assert all(entry.load() is lgatr_backend for entry in found)


def test_type_checkers_find_the_annotations():
    assert (files("pcloud") / "py.typed").is_file()


def test_a_missing_extra_is_asked_for_under_our_name():
    error = MissingExtraError("simulating jets", "pythia8mc and fastjet", "sim")
    assert str(error) == (
        "simulating jets needs pythia8mc and fastjet: pip install 'pcloud-hep[sim]'"
    )


def test_no_line_asks_for_the_other_project():
    wrong = re.compile(r"pcloud\[|(pip|uv|pipx) install (-\S+ )*['\"]?pcloud(?!-hep)\b")
    found = [(name, m[0]) for name, text in texts() for m in wrong.finditer(text)]
    assert found == [("README.md", "pip install pcloud")]  # which says what that is


def test_links_of_the_readme_work_on_a_package_index():
    targets = re.findall(r"\]\(([^)\s]+)", (ROOT / "README.md").read_text())
    assert targets
    assert [t for t in targets if not t.startswith(("https://", "#"))] == []


def test_files_that_the_readme_names_exist():
    named = re.findall(r"`((?:docs|examples)/[\w/.]+)`", (ROOT / "README.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
