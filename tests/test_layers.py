"""Imports follow the data flow: a package imports those before it, and none after it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    (
        "errors",
        "identifiers",
        "keys",
        "kinematics",
        "native_output",
        "plugins",
        "text",
        "typing",
        "words",
    ),
    (
        "expressions",
        "memory",
        "order",
        "particle_types",
        "terminal",
        "text_tables",
        "validation",
        "yaml_files",
    ),
    ("run_files", "stored_values"),
    ("scheduler", "storage"),
    ("io",),
    ("datasets", "python_jets"),
    ("simulate",),
    ("nn",),
    ("quantities",),
    ("feature", "observables"),
    ("collection_features",),
    ("features",),
    ("entries",),
    ("batch", "given_jets"),
    ("standardisation",),
    ("models",),
    ("modality",),
    ("uniform",),
    ("clouds", "images", "series", "tables"),
    ("generative",),
    ("evaluation",),
    ("uncertainty", "interpret", "anomaly"),
    ("objectives",),
    ("training",),
    ("studies",),
    ("report", "export"),
    ("run",),
    ("cli",),
)
"""Packages and modules in import order; those of one line do not import each other."""

EXCEPTIONS = {
    ("datasets.pulses", "series"): "a data set is loaded by its kind of data",
    ("training.fit", "run"): "pcloud.train returns the Run that users hold",
}
"""Imports of a later layer, as (module, layer), with the reason. All are local to a function."""


class Import(NamedTuple):
    importer: str  # module without "pcloud."
    imported: str
    kind: str  # "top", "local" to a function, or for "types" only


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "pcloud").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "pcloud").rglob("*.py"))}


def imports_of(name: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    kinds: dict[ast.AST, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kinds |= dict.fromkeys(ast.walk(node), "local")
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            kinds |= dict.fromkeys(ast.walk(node), "types")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {name}"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in found:
            package, _, rest = full.partition(".")
            if package == "pcloud":
                while rest not in MODULES:  # a function or class of a module
                    rest = rest.rpartition(".")[0]
                yield Import(name, rest, kinds.get(node, "top"))


IMPORTS = [entry for name in MODULES for entry in imports_of(name) if name]


def layer(name: str) -> int:
    package = name.partition(".")[0]
    return next(i for i, packages in enumerate(LAYERS) if package in packages)


def test_every_module_has_a_layer():
    packages = {name.partition(".")[0] for name in MODULES} - {"", "__main__"}
    assert packages <= {package for packages in LAYERS for package in packages}


@pytest.mark.parametrize("kind", ["top", "local", "types"])
def test_no_package_imports_a_later_one(kind):
    wrong = []
    for importer, imported, how in IMPORTS:
        package, other = importer.partition(".")[0], imported.partition(".")[0]
        if how != kind or not imported or package in ("__main__", other):
            continue
        if layer(imported) >= layer(importer):
            known = (importer, other) in EXCEPTIONS and kind != "top"
            if not known:
                wrong.append(f"{importer} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_known_exceptions_still_exist():
    found = {(i.importer, i.imported.partition(".")[0]) for i in IMPORTS}
    assert set(EXCEPTIONS) <= found


@pytest.mark.parametrize("kinds", [{"top"}, {"top", "local"}], ids=["top", "top and local"])
def test_modules_import_each_other_in_no_circle(kinds):
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for importer, imported, kind in IMPORTS:
        known = (importer, imported.partition(".")[0]) in EXCEPTIONS
        # A package imports its modules to export their names, and they import each other.
        inside = importer == imported or imported.startswith(f"{importer}.") or not imported
        if kind in kinds and not inside and not (kind == "local" and known):
            graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


KIND = re.compile(r"\b((Jet|Image)(Set|Dataset|Loader|Batch|Format)|FeatureSet|Clouds|Images)\b")
"""Classes of one kind of data."""


def test_what_comes_after_a_model_asks_for_no_kind_of_data():
    """It asks the modality of the model, so that a new kind is one class and one registration."""
    wrong = []
    for name in MODULES:
        if name.partition(".")[0] not in ("training", "studies", "report", "run", "cli"):
            continue
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Compare) else ""
            is_check = text.startswith(("isinstance(", "issubclass(")) and KIND.search(text)
            if is_check or (isinstance(node, ast.Compare) and re.search(r"\.kind\b", text)):
                wrong.append(f"{name}, line {node.lineno}: {text}")
    assert not wrong, "\n".join(wrong)
