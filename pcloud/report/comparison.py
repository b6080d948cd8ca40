"""Several runs on one page: differences with errors, curves, cost, and what their options differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pcloud.errors import InputError
from pcloud.evaluation.figures import figure_style, roc_figure
from pcloud.evaluation.figures.style import line_styles, new_figure
from pcloud.report.blocks import Section, absent, duration, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.cost import PARTICLES, run_cost
from pcloud.report.figures import FigureFolder
from pcloud.report.page import render_page
from pcloud.run_files import check_writable, make_folder, write_text
from pcloud.studies.comparison import compare_taggers, run_names
from pcloud.text import for_figure
from pcloud.training.run_folder import RunFolder

__all__ = ["curves_figure", "option_differences", "write_comparison"]

_PANELS = {"loss": "val_loss", "AUC": "val_auc", "accuracy": "val_acc"}
_NOT_COMPARED = ("out", "data_root", "accelerator", "devices", "checkpoint_seconds", "workers")


def write_comparison(
    runs: Sequence[str | Path],
    page: str | Path = "compare.html",
    *,
    signal: str | None = None,
    background: str | None = None,
    label: str | None = None,
    trust_code: bool = False,
) -> Path:
    """Write a page that compares several runs from the files in their folders.

    The page holds everything; its figures are also in a folder beside it, ``compare_figures``. Runs
    without scores are compared in the other respects.

    Parameters
    ----------
    runs : sequence of path
        Folders of at least two runs. Differences are those to the first.
    page : path
        File to write, which ends in ``.html``.
    signal, background : str, optional
        Classes of the ROC curves, as for :func:`pcloud.evaluate`; with more than two classes the
        signal must be named.
    label : str, optional
        Text above every figure.
    trust_code : bool
        Run Python code that the folders name as their model, to count its operations.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    InputError
        If a folder holds no run, there is only one, or the page cannot be written.
    """
    page = Path(page)
    if page.suffix != ".html":
        raise InputError(f"several runs are compared on one page: give a file .html, got {page}")
    if len(runs) < 2:
        raise InputError("a comparison needs at least two runs")
    names = run_names([str(run) for run in runs])
    contents = {name: RunContents.read(Path(run)) for name, run in zip(names, runs, strict=True)}
    make_folder(page.parent)
    check_writable(page.parent, "-o FILE writes elsewhere")
    figures = FigureFolder(page.parent / f"{page.stem}_figures", label)
    sections = [
        _differences(contents, figures, signal, background),
        _training(contents, figures),
        _cost(contents, trust_code=trust_code),
        _options(contents),
    ]
    versions = {str(run.environment.get("pcloud", "")) for run in contents.values()} - {""}
    version = versions.pop() if len(versions) == 1 else None
    folders = [str(run.path) for run in contents.values()]
    write_text(page, render_page("Comparison", names, sections, folders, version))
    return page


def _differences(
    contents: Mapping[str, RunContents],
    figures: FigureFolder,
    signal: str | None,
    background: str | None,
) -> Section:
    """Give the metrics with paired differences to the first run, and draw the ROC curves."""
    title = "Result"
    taggers = {name: run.scores for name, run in contents.items() if run.scores is not None}
    missing = [name for name in contents if name not in taggers]
    note = absent(f"no scores of {', '.join(missing)}", "pcloud evaluate RUN writes them")
    note = note if missing else ""
    if len(taggers) < 2:
        return Section(title, note)
    try:
        chosen: dict[str, Any] = {"signal": signal, "background": background}
        found, _ = compare_taggers(taggers, **chosen)
    except InputError as error:
        return Section(title, note + absent(str(error), "no differences"))
    words = (
        f"Each tagger on the same test jets; differences and ratios to {found.names[0]}, whose errors "
        "are those of paired jets. Not included: the spread between trainings."
    )
    caption = (
        "Background rejection against signal efficiency, and its ratio to that of the first run; "
        "bands are the central 68 % of bootstrap resamplings of the same jets."
    )
    drawn = figures.add("roc", roc_figure(taggers, **chosen), caption)
    body = paragraph(words) + note + table(found.rows())
    return Section(title, f'{body}<div class="figures">{drawn}</div>')


def _training(contents: Mapping[str, RunContents], figures: FigureFolder) -> Section:
    """Draw the validation metrics of all runs."""
    curves = {name: run.history.curves() for name, run in contents.items()}
    if not any(column in by_name for by_name in curves.values() for column in _PANELS.values()):
        return Section("Training", absent("no run has validation metrics", "no training curves"))
    caption = "Validation metrics of each run after every epoch."
    drawn = figures.add("training", curves_figure(curves), caption)
    return Section("Training", f'<div class="figures">{drawn}</div>')


@figure_style()
def curves_figure(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw validation loss, AUC and accuracy of several runs, as far as they have them.

    Parameters
    ----------
    curves : mapping of str to mapping of str to (epochs, values)
        For each run, curves by the names of the columns of ``metrics.csv``.
    """
    shown = {
        title: column
        for title, column in _PANELS.items()
        if any(column in by_name for by_name in curves.values())
    }
    figure, panels = new_figure(0.6 + 1.9 * len(shown), rows=len(shown), sharex=True)
    for axes, (title, column) in zip(panels, shown.items(), strict=True):
        for (name, by_name), style in zip(curves.items(), line_styles(len(curves)), strict=True):
            if column in by_name:
                epochs, values = by_name[column]
                marker = "o" if len(values) == 1 else None
                axes.plot(epochs, values, marker=marker, label=for_figure(name), **style)
        axes.set_ylabel(f"validation {title}")
    panels[-1].set_xlabel("epoch")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    handles: dict[str, Any] = {}
    for axes in panels:
        handles |= {t: h for h, t in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=2)
    return figure


def _cost(contents: Mapping[str, RunContents], *, trust_code: bool) -> Section:
    """Give parameters, operations and time of each run."""
    header = ["run", "model", "parameters", "MFLOP", "epochs", "best epoch", "time", "events/s"]
    rows = [header]
    for name, run in contents.items():
        parameters, flops = run_cost(RunFolder(run.path, trust_code=trust_code))
        curves = run.history.curves()
        loss = curves.get("val_loss")
        rows.append(
            [
                name,
                str(run.config.get("model", "")),
                "" if parameters is None else f"{parameters:,}",
                "" if flops is None else f"{flops / 1e6:.3g}",
                str(len(run.history) or ""),
                "" if loss is None else f"{loss[0][loss[1].argmin()]:g}",
                duration(curves["seconds"][1].sum()) if "seconds" in curves else "",
                f"{_median(curves['jets_per_s'][1]):,.0f}" if "jets_per_s" in curves else "",
            ]
        )
    words = (
        f"Operations of one event in a forward pass, of a jet of {PARTICLES} particles; the best "
        "epoch is that of the lowest validation loss. Time and rate depend on the machine and on "
        "what else it did; the rate is the median over epochs."
    )
    return Section("Cost", paragraph(words) + table(rows))


def _median(values: Any) -> float:
    return float(torch.as_tensor(values).double().quantile(0.5))


def option_differences(configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Table of the options that differ between runs; the first row is the header.

    Parameters
    ----------
    configs : mapping of str to mapping
        Options of each run by name. Folders and devices are left out.
    """
    flat = {name: dict(_flatten(config)) for name, config in configs.items()}
    keys = dict.fromkeys(key for config in flat.values() for key in config)
    rows = [["option", *configs]]
    for key in keys:
        values = [config.get(key, "") for config in flat.values()]
        if len(set(values)) > 1 and key.partition(".")[0] not in _NOT_COMPARED:
            rows.append([key, *values])
    return rows


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            pairs += _flatten(value, f"{name}.")
        else:
            is_none = value is None or value in ({}, []) or value != value
            pairs.append((name, "none" if is_none else str(value)))
    return pairs


def _options(contents: Mapping[str, RunContents]) -> Section:
    """Give the options that differ."""
    title = "Differences of the configurations"
    configs = {name: run.config for name, run in contents.items() if run.config}
    if len(configs) < 2:
        return Section(title, absent("fewer than two runs have a config.yaml", "no differences"))
    rows = option_differences(configs)
    if len(rows) == 1:
        return Section(title, paragraph("The configurations are equal."))
    return Section(title, table(rows))
