"""Documentation: links, commands, names and examples that work, and a complete reference."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import pytest
import torch
import uproot

import pcloud
from pcloud.cli import build_parser
from pcloud.cli.parser import complete
from pcloud.cli.program import parse
from pcloud.training import train

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {"_build", "generated"} & set(path.relative_to(DOCS).parts)
)
README = ROOT / "README.md"
ROOT_PAGES = [README, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "UPGRADING"))]
BLOCK = re.compile(r"^```\{?([\w-]*)\}?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_WITHOUT_EXAMPLE = 151  # public names; lower it with every example that is added
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "pcloud").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def blocks(path: Path, *languages: str) -> Iterator[str]:
    """Blocks of code of a page in some languages."""
    for match in BLOCK.finditer(path.read_text(encoding="utf-8")):
        if match[1] in languages:
            yield match[2]


def anchors(path: Path) -> set[str]:
    """Anchors that code hosts give the headings of a page."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The module that writes the reference when the site is built."""
    path = DOCS / "_extensions" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(reference: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    reference.write_pages(folder)
    return folder


# Reference


def test_the_reference_has_every_public_name(generated: Path) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in generated.glob("api/*.rst")}
    described = set(
        re.findall(r"^\.\. (?:auto|py:)\w+:: (pcloud[\w.]*)$", "".join(pages.values()), re.M)
    )
    packages = [path.parent for path in (ROOT / "pcloud").glob("*/__init__.py")]
    found = 0
    for name in ("pcloud", *(f"pcloud.{path.name}" for path in packages if path.name != "cli")):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            if public != "__version__":
                found += 1
                assert f":py:obj:`{public} <" in pages[name], f"{name}.{public}"
                (home,) = re.findall(rf":py:obj:`{public} <([\w.]+)>`", pages[name])
                assert home in described, f"{name}.{public}"
    assert found > 250


def test_the_reference_has_every_option(generated: Path) -> None:
    for name, parser in build_parser().commands.items():
        page = (generated / "commands" / f"{name}.rst").read_text(encoding="utf-8")
        for action in parser._actions:
            for option in {*action.option_strings, action.dest} - {"-h", "--help", "help"}:
                assert not option.startswith("-") or option in page, f"{name} {option}"


def test_the_reference_has_every_field_of_a_schema(generated: Path) -> None:
    page = (generated / "schema.rst").read_text(encoding="utf-8")
    missing = [n for n in pcloud.JetSchema.__dataclass_fields__ if f"``{n}``" not in page]
    assert missing == []


def test_the_numbers_are_those_of_the_benchmark(generated: Path) -> None:
    models = json.loads((DOCS / "figures" / "top_tagging.json").read_text())["models"]
    rows = re.findall(
        r"^\| `(\w+)` \| (\d) \| ([\d.]+)", (generated / "numbers.md").read_text(), re.M
    )
    seeds = models["part"]["seeds"]
    assert {name for name, _, _ in rows} >= set(models)
    assert ("part", "1", f"{seeds['1']['metrics']['auc']['value']:.4f}") in rows


# Pages


@pytest.mark.parametrize("path", [*PAGES, *ROOT_PAGES], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path, generated: Path) -> None:
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        goal = Path(os.path.normpath(path.parent / file)) if file else path
        if DOCS / "generated" in goal.parents:
            goal = generated / goal.relative_to(DOCS / "generated")
        assert goal.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(goal), f"{path.name}: {target}"


def test_every_page_is_in_the_contents(generated: Path) -> None:
    named = set()
    for path in [*PAGES, generated / "index.md"]:
        for block in blocks(path, "toctree"):
            folder = DOCS / "generated" if path.parent == generated else path.parent
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            named |= {os.path.normpath(folder / f"{line}.md") for line in lines}
    assert [p.name for p in PAGES if str(p) not in named] == ["index.md"]


# Commands


def commands(path: Path) -> Iterator[list[str]]:
    """Words of the commands of ``pcloud`` on a page."""
    for block in blocks(path, "sh", "bash", ""):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _words(line)


def _words(line: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a line of output
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word.endswith(";") or word in ("|", ">", ">>", "&&"):
            command.append(word.rstrip(";|>&"))
            if command[0] == "pcloud" and len(command) > 1 and "..." not in command:
                yield [w for w in command[1:] if w]
            command = []
        else:
            command.append(word)


@pytest.mark.parametrize("path", [*PAGES, README], ids=lambda path: path.stem)
def test_commands_have_the_options_that_they_are_given(path: Path) -> None:
    for words in commands(path):
        command, options = parse(words)
        if command.complete:
            complete(command.stages, options)


def test_commands_are_found() -> None:
    found = [words for path in [*PAGES, README] for words in commands(path)]
    assert len(found) > 100
    assert ["report", "runs/a"] in found


# Python


def names_of_pcloud(source: str) -> Iterator[str]:
    """Dotted names after ``pcloud`` in a program, imported ones included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if re.fullmatch(r"pcloud(\.\w+)+", name):
                yield name
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "pcloud":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def value_of(name: str) -> object:
    value: object = pcloud
    path = "pcloud"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        if not hasattr(value, part):
            importlib.import_module(path)
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("path", [*PAGES, README], ids=lambda path: path.stem)
def test_names_in_python_exist(path: Path) -> None:
    for block in blocks(path, "python", "code-cell"):
        source = "\n".join(line for line in block.splitlines() if not line.startswith(("%", ":")))
        for name in names_of_pcloud(source):
            value_of(name)


def small_training(**options: object) -> pcloud.Run:
    return train(**{"epochs": 1, "batch_size": 64, "progress": False, **options})


@pytest.mark.once
@pytest.mark.usefixtures("small_sample", "undrawn")
def test_programs_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pcloud, "train", small_training)
    jets = pcloud.load_dataset("simulated", "test")
    pcloud.write_jets(jets, "my_jets.h5")
    with uproot.recreate("mine.root") as file:
        momenta = {"trk_pt": 1000 * jets.p4.pt, "trk_eta": jets.p4.eta, "trk_phi": jets.p4.phi}
        file["jets"] = {**momenta, "is_top": jets.label}
    programs = list(blocks(README, "python"))
    assert len(programs) >= 3
    found: dict[str, Any] = {"__name__": "readme"}
    for program in programs:
        exec(compile(program, "README.md", "exec"), found)
    assert "AUC" in capsys.readouterr().out
    assert found["scores"].shape == (len(jets), 2)
    assert ak.max(abs(found["jets"].p4.pt - jets.p4.pt)) < 1e-2


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    names = {"pcloud": pcloud, "torch": torch}
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=names, optionflags=flags)
    assert result.failed == 0


def test_few_public_names_have_no_example(reference: ModuleType) -> None:
    without = {}
    for module, names in reference.public_names().items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value) or inspect.isroutine(value):
                without[id(value)] = (f"{module}.{name}", ">>> " not in (value.__doc__ or ""))
    missing = [name for name, is_missing in without.values() if is_missing]
    assert len(missing) <= MAX_WITHOUT_EXAMPLE, missing
