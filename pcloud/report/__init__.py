"""A run folder as one page: figures, numbers with errors, and the commands that reproduce it."""

from __future__ import annotations

from pathlib import Path

from pcloud.errors import InputError
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.page import render
from pcloud.report.sections import all_sections, drawn_section
from pcloud.run_files import (
    EVALUATION_FILE,
    FIGURE_FOLDER,
    REPORT_FILE,
    check_writable,
    make_folder,
    write_text,
)
from pcloud.training.fingerprint import stored_fingerprints
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import evaluated_jets, warn_of_changes

__all__ = ["write_report"]


def write_report(
    run: str | Path, out: str | Path | None = None, *, label: str | None = None
) -> Path:
    """Write ``report.html`` and ``figures/`` of a run from the files in its folder.

    The page holds everything: it needs no other file and no network. Where something is absent,
    such as labelled scores or validation curves, the page says so. A file that cannot be read is
    warned of, and only its section is absent.

    Parameters
    ----------
    run : str or Path
        Folder with ``config.yaml``, ``metrics.csv``, ``metrics.json``, ``scores.parquet`` and
        ``environment.json``, or some of them.
    out : path, optional
        Folder for the page and the figures, by default that of the run. It is made if it does not
        exist. Results of studies are looked for there first.
    label : str, optional
        Text above every figure, such as ``"CMS Simulation Preliminary"``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    InputError
        If the folder holds none of these files, or cannot be written to.
    """
    contents = RunContents.read(Path(run), None if out is None else Path(out))
    _warn_of_other_jets(contents)
    make_folder(contents.out)
    check_writable(contents.out, "--out FOLDER writes elsewhere")
    figures = FigureFolder(contents.out / FIGURE_FOLDER, label, contents.noun)
    page = contents.out / REPORT_FILE
    first, *others = all_sections()
    drawn = [drawn_section(section, contents, figures) for section in others]
    summary = drawn_section(first, contents, figures)  # which shows some of their figures
    write_text(page, render(contents, [summary, *drawn]))
    return page


def _warn_of_other_jets(contents: RunContents) -> None:
    """Warn of results on jets that are not those of the training."""
    try:
        stored = stored_fingerprints(RunFolder(contents.path).fingerprint)
    except (FileNotFoundError, InputError):  # a folder with results alone, or damaged
        return
    place = contents.place(EVALUATION_FILE)
    evaluated = evaluated_jets(place)
    if evaluated is not None and "test" in stored:
        warn_of_changes(f"jets evaluated in {place}", "training", stored["test"], evaluated)
