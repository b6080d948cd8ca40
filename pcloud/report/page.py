"""The HTML page around the sections of a report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from pcloud.report.blocks import Section
from pcloud.report.contents import RunContents
from pcloud.report.sections import test_jets
from pcloud.text import for_html

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p>{facts}</p>
</header>
<nav aria-label="Contents">
{contents}
</nav>
<main>
{sections}
</main>
<footer>Made by pcloud{version} from the files in {folder}. The figures are beside this page as PNG and
PDF, and their points as CSV.</footer>
</body>
</html>
"""


def render(run: RunContents, sections: Sequence[Section]) -> str:
    """Page of a run; sections without a body are left out."""
    version, folder = run.environment.get("pcloud"), str(run.path)
    return render_page(_heading(run), _facts(run), sections, [folder], version)


def render_page(
    heading: str,
    facts: Sequence[str],
    sections: Sequence[Section],
    folders: Sequence[str],
    version: Any = None,
) -> str:
    """Page with a heading and sections; those without a body are left out.

    Parameters
    ----------
    heading : str
        Plain text.
    facts : sequence of str
        Short texts below the heading.
    sections : sequence of Section
        Sections in their order.
    folders : sequence of str
        Folders whose files are shown.
    version : str, optional
        Version of pcloud that has written these files.
    """
    present = [section for section in sections if section.body]
    shown = [
        f'<section id="section-{i}">\n<h2>{for_html(section.title)}</h2>\n{section.body}\n</section>'
        for i, section in enumerate(present)
    ]
    links = (
        f'<li><a href="#section-{i}">{for_html(section.title)}</a></li>'
        for i, section in enumerate(present)
    )
    return _PAGE.format(
        title=for_html(f"{heading} · pcloud"),
        style=files("pcloud.report").joinpath("page.css").read_text("utf-8"),
        heading=for_html(heading),
        facts=" · ".join(f"<span>{for_html(fact)}</span>" for fact in facts),
        contents=f"<ol>{''.join(links)}</ol>",
        sections="\n".join(shown),
        version=for_html(f" {version}" if version else ""),
        folder=", ".join(f"<code>{for_html(folder)}</code>" for folder in folders),
    )


def _heading(run: RunContents) -> str:
    model = run.config.get("model")
    return str(model) if isinstance(model, str) else run.path.resolve().name


def _facts(run: RunContents) -> list[str]:
    facts = []
    if "data" in run.config:
        facts.append(f"trained on {_listed(run.config['data'])}")
    if run.table is not None and run.table.counts:
        facts.append(test_jets(sum(run.table.counts), run.noun))
    elif run.targets:
        facts.append(test_jets(max(map(len, run.targets)), run.noun))
    if "seed" in run.config:
        facts.append(f"seed {run.config['seed']}")
    finished = run.environment.get("finished")
    if finished:
        facts.append(str(finished)[:10])
    elif "finished" in run.environment:
        facts.append("training not finished")
    return facts


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
