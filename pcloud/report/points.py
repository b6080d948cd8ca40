"""Points of a figure as a table, so that others can draw it in their own way."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from pcloud.text import for_terminal

__all__ = ["HEADER", "figure_points", "points_as_csv"]

HEADER = ("panel", "series", "kind", "x", "y", "low", "high")
"""Columns of the table: panel from 1, name of the series, and what its points are."""

_FORMULAS = ("=", "+", "-", "@")  # with which a spreadsheet takes a name for a formula

Row = tuple[int, str, str, float, float, float, float]


def figure_points(figure: Figure) -> list[Row]:
    """Points of all lines, error bars, steps, bands, bars and cells of a figure.

    Returns
    -------
    list of tuple
        Rows with the columns of `HEADER`. `low` and `high` are the ends of an error bar, of a band or
        of a step in x; NaN where there are none. `y` of a cell is its row, and `low` its value.
    """
    rows: list[Row] = []
    for panel, axes in enumerate(figure.axes, 1):
        label = axes.get_ylabel() or axes.get_title() or axes.get_xlabel()
        rows += [(panel, name or label, *rest) for name, *rest in _of_axes(axes)]
    return rows


def points_as_csv(figure: Figure) -> str:
    """Points of a figure as the text of a CSV file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for panel, name, kind, *values in figure_points(figure):
        text = for_terminal(name)
        if text.startswith(_FORMULAS):
            text = f"'{text}"
        numbers = ("" if np.isnan(value) else f"{value:.7g}" for value in values)
        writer.writerow([panel, text, kind, *numbers])
    return buffer.getvalue()


def _of_axes(axes: Axes) -> Iterator[tuple[Any, ...]]:
    """Name, kind and numbers of each point in a panel."""
    taken: set[int] = set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            taken |= {id(part) for part in (line, *caps, *bars) if part is not None}
            yield from _error_bars(_name(container), line, bars)
    for line in axes.lines:
        if id(line) not in taken and line.get_transform() == axes.transData:
            x, y = (np.asarray(v, dtype=float) for v in line.get_data(orig=False))
            yield from _rows(_name(line), "line", x, y)
    for part in axes.collections:
        if id(part) not in taken:
            yield from _of_collection(part)
    for patch in axes.patches:
        if isinstance(patch, StepPatch):
            values, edges, _ = patch.get_data()
            middle = (edges[1:] + edges[:-1]) / 2
            yield from _rows(_name(patch), "step", middle, values, edges[:-1], edges[1:])
        elif isinstance(patch, Rectangle) and patch.get_width() and patch.get_height():
            center, top = patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height()
            yield _name(patch), "bar", center, top, np.nan, np.nan
    for image in axes.images:
        yield from _cells(_name(image), image.get_array())


def _error_bars(name: str, line: Line2D | None, bars: Iterable[LineCollection]) -> Iterator[Any]:
    for bar in bars:
        ends = [np.asarray(segment, dtype=float) for segment in bar.get_segments()]
        if not ends:
            continue
        low, high = np.array([end[0] for end in ends]), np.array([end[-1] for end in ends])
        axis = int(np.nanmax(np.abs(high - low)[:, 1], initial=0.0) > 0)  # 1 for bars in y
        points = (low + high) / 2
        if line is not None:
            drawn = np.column_stack(line.get_data(orig=False)).astype(float)
            points = drawn if len(drawn) == len(points) else points
        kind = "error in y" if axis else "error in x"
        yield from _rows(name, kind, points[:, 0], points[:, 1], low[:, axis], high[:, axis])


def _of_collection(part: Any) -> Iterator[Any]:
    if isinstance(part, QuadMesh):
        yield from _cells(_name(part), part.get_array())
    elif isinstance(part, PolyCollection):
        for path in part.get_paths():
            x, y = np.asarray(path.vertices, dtype=float).T
            edges = np.unique(x[np.isfinite(x)])
            low = [np.nanmin(y[x == at]) for at in edges]
            high = [np.nanmax(y[x == at]) for at in edges]
            nothing = np.full(len(edges), np.nan)
            yield from _rows(_name(part), "band", edges, nothing, np.array(low), np.array(high))
    elif not isinstance(part, LineCollection) and len(part.get_offsets()):
        x, y = np.ma.filled(np.ma.asarray(part.get_offsets(), dtype=float), np.nan).T
        yield from _rows(_name(part), "points", x, y)


def _cells(name: str, found: Any) -> Iterator[Any]:
    values = np.atleast_2d(np.ma.filled(found, np.nan))
    if values.ndim == 2:  # not a picture in colours
        for row, column in np.ndindex(values.shape):
            yield name, "cell", column, row, values[row, column], np.nan


def _rows(name: str, kind: str, *values: np.ndarray) -> Iterator[tuple[Any, ...]]:
    nothing = np.full(len(values[0]), np.nan)
    columns = [*values, *[nothing] * (4 - len(values))]
    for numbers in zip(*columns, strict=True):
        yield name, kind, *map(float, numbers)


def _name(artist: Any) -> str:
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else label
