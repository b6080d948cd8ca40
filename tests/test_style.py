"""Plain English: the rules for sentences that a search can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "pcloud").rglob("*.py"))
TEXTS = [
    *MODULES,
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "renames.md"),
    *sorted((ROOT / "examples").glob("*.py")),
    ROOT / "README.md",
]

QUESTIONS = ("What", "Whether", "How", "Which", "Where", "Who", "When", "Why")
PHRASES = (
    "opinion",
    "taken right",
    "taken wrong",
    "right and wrong",
    "the jets are others",
    "jets are unlike",
    "unlike those of the training",
    "way back",
    "ways back",
    "way forth",
    "ways forth",
    "memory given back",
    "memory kept",
    "clock of the wall",
    "begins with weights",
    "begin with weights",
    "what it begins with",
    "makes scores probabilities",
    "make scores probabilities",
    "scores are probabilities",
    "how sure",
    "decision rests on",
    "decisions rest",
    "making it again",
    "make this run again",
    "what is taken for what",
    " mend",
    "chop off",
    "chopped off",
    "thinned out",
    "first rung",
    "half of m^2 is believed",
    "somebody wants",
    "done with each pair by itself",
    "live on the rounding",
    "without further ado",
    "taken beside other work",
    "what asks",
    "do not know it",
)
"""Phrases of ours for which the field has a term, in lower case."""


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of every docstring of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


def descriptions(text: str) -> Iterator[str]:
    """First lines of the descriptions of parameters and attributes of a numpydoc docstring."""
    sections = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        if title in ("Parameters", "Attributes"):
            for match in re.finditer(r"^\S.*\n((?: +\S.*\n?)+)", body + "\n", re.MULTILINE):
                yield match[1].strip().splitlines()[0]


def test_a_summary_is_a_noun_phrase_or_a_verb_with_its_object():
    starts = tuple(f"{word} " for word in QUESTIONS)
    questions = [
        f"{place}: {text.splitlines()[0]}"
        for path in MODULES
        for place, text in docstrings(path)
        if text.startswith(starts)
    ]
    assert not questions, "\n".join(questions)


def test_a_parameter_is_described_by_a_noun_phrase():
    found = [
        f"{place}: {line}"
        for path in MODULES
        for place, text in docstrings(path)
        for line in descriptions(text)
        if re.match(r"(Of|What|How|Which|Where|Who|When|Why) ", line)
    ]
    assert not found, "\n".join(found)


def test_no_phrase_of_our_own_stands_for_a_term_of_the_field():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {phrase!r} in {line.strip()}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").lower().splitlines(), 1)
        for phrase in PHRASES
        if phrase in f" {line}"
    ]
    assert not found, "\n".join(found)


def old_modules() -> list[str]:
    """Module names of docs/renames.md that no module or package has any more."""
    text = (ROOT / "docs" / "renames.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `(pcloud\.[\w.]+)` \|", text, re.MULTILINE)
    paths = {name: ROOT.joinpath(*name.split(".")) for name in names}
    return [n for n, p in paths.items() if not p.is_dir() and not p.with_suffix(".py").is_file()]


OLD_NAMES = (
    "Opinions",
    "opinions_of",
    "RunKeeper",
    "restate_statistics",
    "held_graph",
    "affordable_jets",
    "outer_product",
    "recognise",
    "explain_run",
    "Scores.check",
)
"""Old classes and functions whose names are no ordinary words."""


def test_no_old_name_is_left():
    names = "|".join(map(re.escape, [*old_modules(), *OLD_NAMES]))
    pattern = re.compile(rf"(?<![\w.])(?:{names})(?![\w.])")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in TEXTS
        for name in sorted(set(pattern.findall(path.read_text(encoding="utf-8"))))
    ]
    assert not found, "\n".join(found)
