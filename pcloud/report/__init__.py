"""A run folder as one page: figures, numbers with errors, and the commands that reproduce it."""

from __future__ import annotations

from pathlib import Path

from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.page import render
from pcloud.report.sections import all_sections
from pcloud.run_files import FIGURE_FOLDER, REPORT_FILE, check_writable, write_text

__all__ = ["write_report"]


def write_report(run: str | Path) -> Path:
    """Write ``report.html`` and ``figures/`` of a run from the files in its folder.

    The page holds everything: it needs no other file and no network. Where something is absent,
    such as labelled scores or validation curves, the page says so. A file that cannot be read is
    warned of, and only its section is absent.

    Parameters
    ----------
    run : str or Path
        Folder with ``config.yaml``, ``metrics.csv``, ``metrics.json``, ``scores.parquet`` and
        ``environment.json``, or some of them.

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
    contents = RunContents.read(Path(run))
    check_writable(contents.path, "--out FOLDER writes elsewhere")
    figures = FigureFolder(contents.path / FIGURE_FOLDER)
    page = contents.path / REPORT_FILE
    sections = [section(contents, figures) for section in all_sections()]
    write_text(page, render(contents, sections))
    return page
