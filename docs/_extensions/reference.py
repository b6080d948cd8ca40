"""Pages of the site that are written from the code: API, commands, configuration and schemas.

`write_pages` writes them to ``docs/generated``, which is no part of the source, whenever the site
is built. Nothing here lists names: they are those of ``__all__``, of the parser of the command line
and of the dataclasses of options.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import os
import pkgutil
import re
import statistics
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import pcloud

ROOT = Path(__file__).parents[2]
GENERATED = "generated"
MODULES = ("errors", "features", "kinematics", "observables", "particle_types", "studies.registry")
"""Modules beside the packages whose names are public."""

_NOT_PYTHON = ("cli",)  # packages that are documented as commands
_COPIES = {
    "changelog": "CHANGELOG.md",
    "upgrading": "UPGRADING.md",
    "contributing": "CONTRIBUTING.md",
    "governance": "GOVERNANCE.md",
    "conduct": "CODE_OF_CONDUCT.md",
    "security": "SECURITY.md",
    "measurements": "benchmarks/NOTES.md",
}
"""Pages that are files outside of ``docs``."""


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for its sources."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / GENERATED))
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(folder: Path) -> list[Path]:
    """Write all pages; a file that would not change is left alone, so that it is not built again."""
    pages = {
        "index.md": _index(),
        **{f"api/{name}.rst": text for name, text in _api()},
        **{f"commands/{name}.rst": text for name, text in _commands()},
        **{f"examples/{name}.md": text for name, text in _examples()},
        "configuration.rst": _configuration(),
        "schema.rst": _schema(),
        **{f"{name}.md": _copied(source) for name, source in _COPIES.items()},
        "numbers.md": _numbers(),
        "citation.md": _citation(),
    }
    written = []
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        written.append(path)
    for path in set(folder.rglob("*.*")) - set(written):
        path.unlink()  # of a name that is gone
    return written


# Public names


def public_names() -> dict[str, list[str]]:
    """Public names by module, ``pcloud`` first."""
    packages = [m.name for m in pkgutil.iter_modules(pcloud.__path__) if m.ispkg]
    names = {"pcloud": [name for name in pcloud.__all__ if name != "__version__"]}
    for name in sorted([*packages, *MODULES]):
        if name not in _NOT_PYTHON and (found := _names(import_module(f"pcloud.{name}"))):
            names[f"pcloud.{name}"] = found
    return names


def _names(module: ModuleType) -> list[str]:
    """Names of ``__all__``; of a module without one, its own classes and functions."""
    if hasattr(module, "__all__"):
        names = list(module.__all__)
    elif hasattr(module, "__path__"):
        return []
    else:
        own = (
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        )
        names = [name for name in own if not name.startswith("_")]
    return sorted(
        (n for n in names if not inspect.ismodule(getattr(module, n))), key=lambda n: n.lower()
    )


def _summary(value: Any) -> str:
    """First sentence of the docstring; of a constant, none, because it has that of its type."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    return (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")


# API


def _api() -> Iterator[tuple[str, str]]:
    """Page of each module: a table of its names, and the description of each.

    An object with several names is described under the first of them.
    """
    described: dict[int, str] = {}
    names = public_names()
    yield "index", _api_index(names)
    for module_name, of_module in names.items():
        module = import_module(module_name)
        rows, entries = [], []
        for name in of_module:
            value, path = getattr(module, name), f"{module_name}.{name}"
            is_code = inspect.isclass(value) or inspect.isroutine(value)
            home = described.setdefault(id(value), path) if is_code else path
            rows.append([f":py:obj:`{name} <{home}>`", _inline(_summary(value))])
            if home == path:
                entries.append(_entry(path, value))
        about = inspect.getdoc(module) or ""
        yield (
            module_name,
            "\n\n".join(
                [
                    f"{module_name}\n{'=' * len(module_name)}",
                    f".. py:module:: {module_name}",
                    about,
                    _table(["name", "description"], rows, [30, 70]),
                    *entries,
                ]
            )
            + "\n",
        )


def _entry(path: str, value: Any) -> str:
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {path}"
    if inspect.isroutine(value):
        return f".. autofunction:: {path}"
    about = textwrap.indent(_text_of_constant(path), "   ")
    return f".. py:data:: {path}\n\n{about}".rstrip()


def _text_of_constant(path: str) -> str:
    """String under the assignment of a constant, or its comments ``#:``, in its own module."""
    module, _, name = path.rpartition(".")
    for node in ast.parse(_source(module)).body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            module = str(node.module)
    source = _source(module)
    for node, below in itertools.pairwise(ast.parse(source).body):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found))
            ):
                if found != name:
                    continue
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    return inspect.cleandoc(str(below.value.value))
                above = reversed(source.splitlines()[: node.lineno - 1])
                lines = list(itertools.takewhile(lambda line: line.startswith("#:"), above))
                return "\n".join(line[2:].strip() for line in reversed(lines))
    return ""


def _source(module: str) -> str:
    return inspect.getsource(import_module(module))


def _api_index(names: Mapping[str, list[str]]) -> str:
    rows = [
        [f":doc:`{name} <{name}>`", _inline(_first_line(import_module(name))), str(len(of_module))]
        for name, of_module in names.items()
    ]
    return "\n\n".join(
        [
            "Python\n======",
            (
                "Public names by module. Names of the first module are those that most programs need; "
                "what may change in them, and when, is in :doc:`../upgrading`."
            ),
            _table(["module", "description", "names"], rows, [25, 65, 10]),
            _toctree(names),
        ]
    )


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n")[0]


# Commands


def _commands() -> Iterator[tuple[str, str]]:
    from pcloud.cli import build_parser

    parsers = build_parser().commands
    rows = [
        [f":doc:`pcloud {name} <{name}>`", _inline(parser.description or "")]
        for name, parser in parsers.items()
    ]
    yield (
        "index",
        "\n\n".join(
            [
                "Commands\n========",
                (
                    "``pcloud COMMAND --help`` shows the same text. Options are written ``--max-jets 1000`` on "
                    "the command line, ``max_jets: 1000`` in a configuration and ``max_jets=1000`` in Python."
                ),
                _table(["command", "description"], rows, [30, 70]),
                _toctree(parsers),
            ]
        ),
    )
    for name, parser in parsers.items():
        yield name, "\n".join(_command(name, parser))


def _command(name: str, parser: ArgumentParser) -> Iterator[str]:
    title = f"pcloud {name}"
    yield from (title, "=" * len(title), "", _inline(parser.description or ""), "")
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield from (".. code-block:: text", "", f"   {usage}", "", f".. program:: {title}", "")
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if "--help" not in a.option_strings]
        if not actions:
            continue
        heading = {"positional arguments": "Arguments"}.get(group.title or "", group.title or "")
        yield from (heading, "-" * len(heading), "")
        for action in actions:
            names = action.option_strings or [action.dest]
            value = f" {action.metavar}" if action.option_strings and action.metavar else ""
            more = " ..." if action.nargs == "+" else ""
            yield f".. option:: {', '.join(n + value + more for n in names)}"
            yield from ("", f"   {_inline((action.help or '').replace('%%', '%'))}", "")


# Configuration and schemas


def _configuration() -> str:
    from pcloud.training.config import STAGES
    from pcloud.training.recipes import RECIPES, Recipe

    parts = [
        "Configuration\n=============",
        (
            "Every option of a training, as it stands in ``config.yaml`` of a run and in the file of "
            "``pcloud train --config``. ``null`` stands for an option that is not given; options of the "
            "optimization that are not given are those of the recipe of the model."
        ),
    ]
    for stage in STAGES.values():
        title = _first_line(stage).rstrip(".")
        parts.append(f"{title}\n{'-' * len(title)}")
        parts += _options(stage)
    fields = [f.name for f in dataclasses.fields(Recipe)]
    parts.append("Recipes\n-------")
    parts.append("Values of the options that are not given, by the name of the recipe.")
    rows = [
        [f"``{name}``", *(_value(getattr(recipe, field)) for field in fields)]
        for name, recipe in RECIPES.items()
    ]
    parts.append(_table(["recipe", *fields], rows, []))
    return "\n\n".join(parts) + "\n"


def _options(stage: type) -> Iterator[str]:
    from pcloud.validation import default, descriptions, hints, type_name

    for f in dataclasses.fields(stage):
        if f.name not in descriptions(stage):
            continue
        value = default(f)
        text = "required" if value is dataclasses.MISSING else f"default {_value(value)}"
        yield "\n\n   ".join(
            [
                f".. confval:: {f.name}",
                f"``{type_name(hints(stage)[f.name])}``, {text}",
                _inline(descriptions(stage)[f.name]),
            ]
        )


def _value(value: Any) -> str:
    if not _is_plain(value):
        return f"``{value}``"
    text = yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()
    return f"``{text[1:-1]}``"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | dict)


def _schema() -> str:
    from pcloud.io import SCHEMAS, CollectionSchema, JetSchema

    parts = [
        "Fields of a schema\n==================",
        (
            "Fields of a YAML file for ``--schema``, and arguments of :py:obj:`pcloud.JetSchema`. "
            ":doc:`../schemas` shows files of experiments, :doc:`../columns` what can stand for a column."
        ),
    ]
    for kind, title in ((JetSchema, "Jets"), (CollectionSchema, "Entries of ``collections``")):
        parts.append(f"{title}\n{'-' * len(title)}")
        rows = [[f"``{n}``", _inline(t), _inline(text)] for n, t, text in _parameters(kind)]
        parts.append(_table(["field", "value", "meaning"], rows, [18, 22, 60]))
    parts.append("Schemas with a name\n-------------------")
    parts.append(", ".join(f"``{name}``" for name in SCHEMAS) + ".")
    return "\n\n".join(parts) + "\n"


def _parameters(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, type and description of every field, from the numpydoc section of its class."""
    sections = re.split(r"^(\w+)\n-{3,}\n", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    text = dict(zip(sections[1::2], sections[2::2], strict=True))["Parameters"]
    for names, hint, about in re.findall(r"^(\S[^:\n]*) : (.*)\n((?:    .*\n?|\n)+)", text, re.M):
        for name in names.split(", "):
            yield name, hint, " ".join(about.split())


# Other pages


def _index() -> str:
    return textwrap.dedent(
        """\
        # Reference

        Written from the code of this version:

        - [Python](api/index.rst): classes and functions of each module
        - [Commands](commands/index.rst): every option of the command line
        - [Configuration](configuration.rst): every option of a training, and the recipes
        - [Fields of a schema](schema.rst)
        - [Examples](examples/index.md): programs of a page
        - [Names that have changed](../renames.md)
        - [Numbers](numbers.md): accuracy and cost of the networks, from the files that the benchmarks write
        - [Measurements](measurements.md): how the numbers about speed and memory were taken

        The project: [changelog](changelog.md), [upgrading](upgrading.md),
        [contributing](contributing.md), [governance](governance.md), [code of conduct](conduct.md),
        [security](security.md), [citation](citation.md).

        ```{toctree}
        :hidden:
        api/index
        commands/index
        configuration
        schema
        examples/index
        ../renames
        upgrading
        changelog
        contributing
        governance
        conduct
        security
        numbers
        measurements
        citation
        ```
        """
    )


def _examples() -> Iterator[tuple[str, str]]:
    """Every program of ``examples``: its docstring as text, and its source."""
    paths = sorted((ROOT / "examples").glob("*.py"))
    lines = []
    for path in paths:
        source = path.read_text(encoding="utf-8")
        about = ast.get_docstring(ast.parse(source)) or ""
        first, _, rest = about.partition("\n")
        lines.append(f"- [{path.name}]({path.stem}.md): {first}")
        yield path.stem, f"# {path.name}\n\n{first}\n{_as_text(rest)}\n\n```python\n{source}```\n"
    names = "\n".join(path.stem for path in paths)
    yield (
        "index",
        "# Examples\n\nPrograms of a page or two, in the folder `examples` of the source.\n\n"
        + "\n".join(lines)
        + f"\n\n```{{toctree}}\n:hidden:\n{names}\n```\n",
    )


def _as_text(text: str) -> str:
    """Docstring as Markdown: indented lines are code."""
    blocks = itertools.groupby(text.strip("\n").splitlines(), lambda line: line.startswith("    "))
    return "\n".join(
        "\n".join(["", "```sh", *(line[4:] for line in lines), "```"])
        if is_code
        else "\n".join(lines)
        for is_code, lines in blocks
    ).replace("::\n", ":\n")


def _copied(source: str) -> str:
    """File outside of ``docs``, with links that work from ``docs/generated``."""
    path = ROOT / source
    text = path.read_text(encoding="utf-8")
    return with_links_of_the_site(text, path.parent, ROOT / "docs" / GENERATED)


def _read(app: Any, name: str, source: list[str]) -> None:
    """Change the links of a page of ``docs`` that lead out of it."""
    if not name.startswith(GENERATED):
        folder = (Path(app.srcdir) / name).parent
        source[0] = with_links_of_the_site(source[0], folder, folder)


def with_links_of_the_site(text: str, folder: Path, place: Path) -> str:
    """Markdown whose links to files of the repository are links to their pages, or code.

    Parameters
    ----------
    text : str
        Markdown with links relative to `folder`.
    folder : Path
        Folder of the file.
    place : Path
        Folder of its page.
    """

    def changed(match: re.Match[str]) -> str:
        label, target, anchor = match.groups()
        path = Path(os.path.normpath(folder / target))
        page = _page(path)
        if page is None:
            return f"`{label.strip('`')}`"
        return f"[{label}]({os.path.relpath(page, place)}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^]\[]+)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", changed, text)


def _page(path: Path) -> Path | None:
    """Source of the page about a file of the repository, if there is one."""
    docs = ROOT / "docs"
    pages = {ROOT / source: docs / GENERATED / f"{name}.md" for name, source in _COPIES.items()}
    if path in pages or docs in path.parents:
        return pages.get(path, path)
    if path.parent == ROOT / "examples" and path.suffix == ".py":
        return docs / GENERATED / "examples" / f"{path.stem}.md"
    return None


_NUMBERS = {
    "top_tagging": "All networks on few jets",
    "top_tagging_slow": "Slow networks, and ParticleNet, on fewer jets",
}
"""Results of ``benchmarks/top_tagging.py`` in ``docs/figures``, and their titles."""


def _numbers() -> str:
    """Accuracy and cost of each network, from the results that a benchmark wrote."""
    parts = [
        "# Numbers",
        (
            "Written from the files of `benchmarks/top_tagging.py` when the site is built. A value of several "
            "seeds is their mean ± their standard deviation; of one seed, in brackets, ± the error of the test "
            "jets. Rates are jets per second in batches on one thread of a 2.5 GHz Xeon, with other jobs "
            "running: only their ratios are meaningful. [Models](../models.md) says what follows from them."
        ),
    ]
    for file, title in _NUMBERS.items():
        path = ROOT / "docs" / "figures" / f"{file}.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        settings = found["settings"]
        parts.append(
            f"## {title}\n\n`python benchmarks/top_tagging.py --max-jets {settings['max_jets']} --epochs "
            f"{settings['epochs']} --max-val-jets {settings['max_val_jets']} --max-test-jets {sum(settings['test_jets'])}`, sample "
            f"`{settings['data']}`, {sum(settings['test_jets']):,} test jets, from `docs/figures/{file}.json`."
        )
        rows = [_numbers_row(name, model) for name, model in found["models"].items()]
        header = ["network", "seeds", "AUC", "parameters", "MFLOP per jet", "training", "scoring"]
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _numbers_row(name: str, model: Mapping[str, Any]) -> list[str]:
    measured = [seed["metrics"]["auc"] for seed in model["seeds"].values()]
    values = [auc["value"] for auc in measured]
    if len(values) > 1:
        auc = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
    else:
        auc = f"{values[0]:.4f} (± {measured[0]['error']:.4f})" if values else "-"
    cost = model["cost"]
    return [
        f"`{name}`",
        str(len(values)),
        auc,
        f"{cost['parameters']:,}",
        f"{cost['flops_per_jet'] / 1e6:.3g}",
        _rate(cost["train_rate"]),
        _rate(cost["infer_rate"]),
    ]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _citation() -> str:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    about = yaml.safe_load(text)
    authors = " and ".join(f"{{{author['name']}}}" for author in about["authors"])
    return "\n".join(
        [
            "# Citation",
            "",
            f"{about['message'].rstrip('.')}: `pcloud models` and `pcloud datasets` list these papers.",
            "",
            "```bibtex",
            "@software{pcloud,",
            f"  author  = {{{authors}}},",
            f"  title   = {{{about['title']}}},",
            f"  version = {{{about['version']}}},",
            f"  year    = {{{str(about['date-released'])[:4]}}}",
            "}",
            "```",
            "",
            "The same as `CITATION.cff`, which reference managers read:",
            "",
            "```yaml",
            text.rstrip(),
            "```",
            "",
        ]
    )


# reStructuredText


def _table(header: list[str], rows: Iterable[list[str]], widths: list[int]) -> str:
    lines = [".. list-table::", "   :header-rows: 1"]
    if widths:
        lines.append(f"   :widths: {' '.join(map(str, widths))}")
    lines.append("")
    for row in [header, *rows]:
        for i, cell in enumerate(row):
            lines.append(f"   {'* -' if i == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


def _toctree(names: Iterable[str]) -> str:
    return "\n".join([".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)])


def _inline(text: str) -> str:
    """Plain text with code in single or double backquotes, and roles, as reStructuredText."""
    parts = re.split(r"(:[\w:]+:`[^`]+`|``.+?``|`[^`]+`)", text)
    return "".join(_piece(part) for part in parts)


def _piece(text: str) -> str:
    if text.startswith((":", "``")) and text.endswith("`"):
        return text
    if text.startswith("`"):
        return f"`{text}`"
    return re.sub(r"([\\*_|])", r"\\\1", text)
