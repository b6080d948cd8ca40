"""Figures of attributions (jets, features, mean images, pixels) and of attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcloud.evaluation.figures.style import (
    COLORS,
    INK,
    MUTED,
    figure_style,
    line_styles,
    new_figure,
)
from pcloud.text import for_figure

__all__ = [
    "attention_figure",
    "features_figure",
    "heatmaps_figure",
    "images_figure",
    "jets_figure",
]

_DIVERGING = "RdBu_r"
_AXIS_LIMIT = 0.85  # half-width of the panels in delta eta and delta phi (rad)


@figure_style()
def jets_figure(jets: Sequence[Mapping[str, Any]], *, label: str, columns: int = 2) -> Figure:
    """Draw the particles of jets in the eta-phi plane: area by pT, colour by attribution.

    Parameters
    ----------
    jets : sequence of mapping
        Jets, each with ``deta``, ``dphi``, ``share`` and ``values`` of its particles, a ``title``
        and optionally ``edges``, rows of (source, target, importance).
    label : str
        Label of the colour scale.
    columns : int
        Number of panels side by side.

    Returns
    -------
    Figure
    """
    rows = -(-len(jets) // columns)
    figure, panels = new_figure(0.7 + 2.35 * rows, rows, columns)
    for axes in panels[len(jets) :]:
        axes.set_visible(False)
    values = np.concatenate([np.asarray(jet["values"], dtype=float) for jet in jets])
    largest = float(np.nanquantile(np.abs(values), 0.99)) or 1.0
    for axes, jet in zip(panels, jets, strict=False):
        _draw_edges(axes, jet)
        points = axes.scatter(
            jet["deta"],
            jet["dphi"],
            s=1500 * np.asarray(jet["share"]) + 2,
            c=np.nan_to_num(np.asarray(jet["values"], dtype=float)),
            cmap=_DIVERGING,
            vmin=-largest,
            vmax=largest,
            linewidths=0.5,
            edgecolors=INK,
        )
        limits = (-_AXIS_LIMIT, _AXIS_LIMIT)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.set_title(for_figure(jet["title"]), fontsize=9.5)
        axes.set_xticks([-0.5, 0, 0.5])
        axes.set_yticks([-0.5, 0, 0.5])
        axes.set(xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$ [rad]")
        axes.label_outer()
    figure.colorbar(
        points, ax=panels, location="bottom", label=label, fraction=0.05, aspect=40, shrink=0.9
    )
    return figure


def _draw_edges(axes: Axes, jet: Mapping[str, Any]) -> None:
    edges = np.asarray(jet.get("edges") or np.empty((0, 3)), dtype=float)
    if not len(edges):
        return
    at = np.stack([jet["deta"], jet["dphi"]], axis=1)
    source = edges[:, 0].astype(int)
    target = edges[:, 1].astype(int)
    size = np.abs(edges[:, 2]) / np.abs(edges[:, 2]).max()
    colors = np.where(edges[:, 2] > 0, "#b2182b", "#2166ac")
    lines = LineCollection(
        np.stack([at[source], at[target]], axis=1).tolist(),
        colors=colors.tolist(),
        linewidths=(2.5 * size).tolist(),
        alpha=0.7,
        zorder=0,
    )
    axes.add_collection(lines)


@figure_style()
def features_figure(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the share of each feature in the mean absolute attribution, for each method.

    Parameters
    ----------
    shares : mapping of str to mapping of str to float
        Shares of the features by method and feature.

    Returns
    -------
    Figure
    """
    names = list(next(iter(shares.values())))
    figure, (axes,) = new_figure(0.9 + 0.42 * len(names))
    height = 0.8 / len(shares)
    for i, (method, values) in enumerate(shares.items()):
        at = np.arange(len(names)) + (i - (len(shares) - 1) / 2) * height
        label = for_figure(method.replace("_", " "))
        axes.barh(at, [values[n] for n in names], height * 0.9, color=COLORS[i], label=label)
    axes.set_yticks(range(len(names)), [for_figure(name.replace("_", " ")) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the mean absolute attribution")
    figure.legend(loc="outside upper center", ncols=len(shares), fontsize=10)
    return figure


@figure_style()
def images_figure(images: Mapping[str, ArrayLike], *, label: str, size: float = 0.8) -> Figure:
    """Draw mean images side by side on one colour scale.

    The scale is logarithmic for positive values and linear with two colours for signed values.

    Parameters
    ----------
    images : mapping of str to array_like, shape (pixels, pixels)
        Images by title.
    label : str
        Label of the colour scale.
    size : float
        Half-width of the images in delta eta and delta phi (rad).
    """
    rows = -(-len(images) // 2)
    figure, panels = new_figure(1.3 + 2.3 * rows, rows, 2)
    for axes in panels[len(images) :]:
        axes.set_visible(False)
    cells = {name: np.asarray(image, dtype=float) for name, image in images.items()}
    signed = min(image.min() for image in cells.values()) < 0
    largest = max(np.abs(image).max() for image in cells.values()) or 1.0
    scale: dict[str, Any] = {"norm": "log", "cmap": "Blues", "vmin": largest / 1e4, "vmax": largest}
    if signed:
        # the pixel on the axis, with the particle of the highest pT, must not set the scale
        nonzero = np.concatenate([np.abs(image[image != 0]) for image in cells.values()])
        limit = float(np.quantile(nonzero, 0.97))
        scale = {"cmap": _DIVERGING, "vmin": -limit, "vmax": limit}
    for axes, (name, image) in zip(panels, cells.items(), strict=False):
        shown = image if signed else np.maximum(image, largest / 1e4)
        edges = np.linspace(-size, size, len(image) + 1)
        mesh = axes.pcolormesh(edges, edges, shown, rasterized=True, **scale)
        axes.set_title(for_figure(name), fontsize=11)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set(xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$ [rad]")
        axes.label_outer()
    figure.colorbar(mesh, ax=panels, location="bottom", label=label, fraction=0.05, aspect=40)
    return figure


@figure_style()
def attention_figure(profiles: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw attention relative to uniform attention against each pair feature, layer by layer.

    Parameters
    ----------
    profiles : mapping of str to (edges, profile)
        Results of :meth:`pcloud.interpret.attention.AttentionMaps.profile` by pair feature.

    Returns
    -------
    Figure
    """
    figure, panels = new_figure(4.6, 2, 2, sharey=True)
    for axes, (name, (edges, profile)) in zip(panels, profiles.items(), strict=False):
        bins = np.asarray(edges, dtype=float)
        layers = np.asarray(profile, dtype=float)
        middle = (bins[1:] + bins[:-1]) / 2
        for i, (line, style) in enumerate(zip(layers, line_styles(len(layers)), strict=True)):
            axes.plot(middle, line, label=f"layer {i + 1}", **{**style, "linewidth": 1.4})
        axes.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel=name, yscale="log")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    figure.supylabel("attention relative to uniform", fontsize=12)
    return figure


@figure_style()
def heatmaps_figure(images: Sequence[Mapping[str, Any]], method: str, *, label: str) -> Figure:
    """Draw images, each beside the contributions of its pixels to the response.

    Contributions in favour of the class are red, those against it blue, on one scale. Grey levels
    of the images are square roots of the pixels.

    Parameters
    ----------
    images : sequence of mapping
        Images, each with a ``title``, an ``image`` (H, W) and ``values`` (H, W) by method.
    method : str
        Name of the method.
    label : str
        Label of the colour scale.

    Returns
    -------
    Figure
    """
    rows = -(-len(images) // 2)
    figure, panels = new_figure(0.7 + 1.35 * rows, rows, 4)
    values = [np.asarray(image["values"][method], dtype=float) for image in images]
    largest = float(np.quantile(np.abs(np.stack(values)), 0.998)) or 1.0
    pairs = zip(panels[::2], panels[1::2], strict=True)
    for image, value, (left, right) in zip(images, values, pairs, strict=False):
        grey = np.sqrt(np.maximum(np.asarray(image["image"], dtype=float), 0))
        left.imshow(grey, cmap="Greys", interpolation="nearest")
        left.set_title(for_figure(image["title"]), fontsize=8, loc="left")
        drawn = right.imshow(
            value, cmap=_DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest"
        )
    for axes in figure.axes:
        axes.set_axis_off()
    figure.colorbar(
        drawn, ax=figure.axes, location="bottom", label=label, fraction=0.05, aspect=40, shrink=0.9
    )
    return figure
