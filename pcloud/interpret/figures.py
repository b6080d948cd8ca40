"""Figures of Taylor coefficients: ranking, development during the training, values in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pcloud.evaluation.figures.style import (
    COLORS,
    figure_style,
    line_styles,
    new_figure,
)
from pcloud.evaluation.measured import Measured
from pcloud.text import for_figure

__all__ = ["course_figure", "plane_figure", "planes_figure", "ranking_figure"]


@figure_style()
def ranking_figure(coefficients: Mapping[str, Measured], *, most: int = 15) -> Figure:
    """Draw mean absolute coefficients as bars, the largest on top, one colour for each order.

    Parameters
    ----------
    coefficients : mapping of str to Measured
        Coefficients by name, the largest first.
    most : int
        Maximum number of bars.
    """
    names = list(coefficients)[:most]
    entries = [coefficients[name] for name in names]
    figure, (axes,) = new_figure(0.9 + 0.27 * len(names))
    for order, color in ((1, COLORS[0]), (2, COLORS[1])):
        at = [i for i, name in enumerate(names) if ("," in name) == (order == 2)]
        axes.barh(
            at,
            [entries[i].value for i in at],
            xerr=np.transpose([entries[i].sides() for i in at]) if at else None,
            color=color,
            height=0.65,
            label="first order" if order == 1 else "second order",
        )
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(r"mean $|t|$")
    axes.legend(loc="lower right", labelcolor="linecolor", handlelength=0.8)
    return figure


@figure_style()
def course_figure(course: Mapping[int, Mapping[str, Measured]], *, most: int = 6) -> Figure:
    """Draw the coefficients that are largest after the last epoch against the epoch.

    Parameters
    ----------
    course : mapping of int to mapping of str to Measured
        Mean absolute coefficients by epoch and name.
    most : int
        Maximum number of coefficients.
    """
    epochs = sorted(course)
    names = sorted(course[epochs[-1]], key=lambda name: -course[epochs[-1]][name].value)[:most]
    figure, (axes,) = new_figure(4.2)
    for name, style in zip(names, line_styles(len(names)), strict=True):
        value = np.array([course[epoch][name].value for epoch in epochs])
        down, up = np.transpose([course[epoch][name].sides() for epoch in epochs])
        marker = "o" if len(epochs) < 30 else None
        axes.plot(epochs, value, label=_label(name), marker=marker, markersize=3.5, **style)
        axes.fill_between(
            epochs, value - down, value + up, color=style["color"], alpha=0.15, linewidth=0
        )
    axes.set(xlabel="epoch", ylabel=r"mean $|t|$")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=2, fontsize=9.5)
    return figure


@figure_style()
def plane_figure(
    values: ArrayLike,
    edges: tuple[ArrayLike, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    label: str,
    signed: bool = False,
) -> Figure:
    """Draw a coefficient in the plane of two inputs; empty cells are white.

    Parameters
    ----------
    values : array_like, shape (K, L)
        Mean values, as from :func:`~pcloud.interpret.mean_in_plane`.
    edges : tuple of array_like, shapes (K + 1,) and (L + 1,)
        Edges of the cells.
    xlabel, ylabel, label : str
        Labels of the axes and of the colour scale.
    signed : bool
        Use different colours for negative and positive values.
    """
    shown = np.ma.masked_invalid(np.asarray(values, dtype=float))
    figure, (axes,) = new_figure(3.9)
    limit = float(np.abs(shown).max())
    scale: Any = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    if not signed:  # a cell with few jets may be an outlier
        scale = {"cmap": "viridis", "vmin": 0, "vmax": float(np.quantile(shown.compressed(), 0.98))}
    x, y = (np.asarray(edge) for edge in edges)
    drawn = axes.pcolormesh(x, y, shown.T, rasterized=True, **scale)
    axes.grid(visible=False)
    axes.set(xlabel=xlabel, ylabel=ylabel, aspect="equal")
    figure.colorbar(drawn, ax=axes, label=label, pad=0.02)
    return figure


@figure_style()
def planes_figure(
    planes: Mapping[int, ArrayLike], edges: ArrayLike, *, xlabel: str, ylabel: str, label: str
) -> Figure:
    """Draw a coefficient in the plane of two inputs after several epochs, with a common scale.

    Parameters
    ----------
    planes : mapping of int to array_like, shape (K, K)
        Values by epoch, the first input first; NaN for empty cells.
    edges : array_like, shape (K + 1,)
        Edges of the cells of both inputs.
    xlabel, ylabel, label : str
        Labels of the axes and of the colour scale.
    """
    limit = max(float(np.nanmax(np.abs(values))) for values in planes.values())
    panels: dict[str, Any] = {"columns": len(planes), "sharex": True, "sharey": True}
    figure, every = new_figure(2.2, **panels)
    at = np.asarray(edges)
    for axes, (epoch, values) in zip(every, planes.items(), strict=True):
        scale: Any = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        drawn = axes.pcolormesh(at, at, np.asarray(values).T, rasterized=True, **scale)
        axes.grid(visible=False)
        axes.set(xlabel=for_figure(xlabel), aspect="equal")
        axes.set_title(f"epoch {epoch}", fontsize=10)
    every[0].set_ylabel(for_figure(ylabel))
    figure.colorbar(drawn, ax=every, label=for_figure(label), pad=0.02)
    return figure


def _label(name: str) -> str:
    return for_figure(name.replace(", ", " \N{MULTIPLICATION SIGN} ").replace("_", " "))
