"""A run folder as one page: figures, numbers with errors, and how to make it again."""

from __future__ import annotations

from pathlib import Path

from pcloud.report.figures import FigureFolder
from pcloud.report.page import render
from pcloud.report.run_folder import RunFolder
from pcloud.report.sections import SECTIONS

__all__ = ["write_report"]


def write_report(run: str | Path) -> Path:
    """Write ``report.html`` and ``figures/`` of a run from the files in its folder.

    The page holds everything: it needs no other file and no network. What a run does not
    have, such as labelled scores or validation curves, the page says in a sentence.

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
        If the folder holds none of these files, or one that cannot be read.
    """
    folder = RunFolder.read(Path(run))
    figures = FigureFolder(folder.path / "figures")
    page = folder.path / "report.html"
    page.write_text(render(folder, [make(folder, figures) for make in SECTIONS]), "utf-8")
    return page
