"""Figures of attributions: on the jet, by feature, on average; attention against pair features."""

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
    WIDTH,
    figure_style,
    line_styles,
)

__all__ = [
    "attention_figure",
    "features_figure",
    "heatmaps_figure",
    "images_figure",
    "jets_figure",
]

_DIVERGING = "RdBu_r"
_LIMIT = 0.85  # of the plane in eta and phi


@figure_style()
def jets_figure(jets: Sequence[Mapping[str, Any]], *, label: str, columns: int = 2) -> Figure:
    """Particles of jets in the plane of eta and phi: area their pT, colour their attribution.

    Parameters
    ----------
    jets : sequence of mapping
        Each with ``deta``, ``dphi``, ``share`` and ``values`` of its particles and a ``title``;
        and where wanted ``edges``, rows of (source, target, importance).
    label : str
        What the colour means.
    columns : int
        Panels side by side.

    Returns
    -------
    Figure
    """
    rows = -(-len(jets) // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + 2.35 * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
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
        axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal")
        axes.set_title(jet["title"], fontsize=9.5, parse_math=False)
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
    source, target = edges[:, 0].astype(int), edges[:, 1].astype(int)
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
    """Part of the mean absolute attribution that each feature has, method by method.

    Parameters
    ----------
    shares : mapping of str to mapping of str to float
        For each method the shares of the features.

    Returns
    -------
    Figure
    """
    names = list(next(iter(shares.values())))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(names)))
    axes = figure.subplots()
    height = 0.8 / len(shares)
    for i, (method, values) in enumerate(shares.items()):
        at = np.arange(len(names)) + (i - (len(shares) - 1) / 2) * height
        label = method.replace("_", " ")
        axes.barh(at, [values[n] for n in names], height * 0.9, color=COLORS[i], label=label)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("part of all attribution")
    figure.legend(loc="outside upper center", ncols=len(shares), fontsize=10)
    return figure


@figure_style()
def images_figure(images: Mapping[str, ArrayLike], *, label: str, size: float = 0.8) -> Figure:
    """Mean images side by side: of pT on a logarithmic scale, of signed values in two colours."""
    figure = Figure(figsize=(WIDTH, 1.3 + 2.3 * -(-len(images) // 2)))
    panels = list(figure.subplots(-(-len(images) // 2), 2, squeeze=False).flat)
    for axes in panels[len(images) :]:
        axes.set_visible(False)
    cells = {name: np.asarray(image, dtype=float) for name, image in images.items()}
    signed = min(image.min() for image in cells.values()) < 0
    largest = max(np.abs(image).max() for image in cells.values()) or 1.0
    scale: dict[str, Any] = {"norm": "log", "cmap": "Blues", "vmin": largest / 1e4, "vmax": largest}
    if signed:
        # the pixel on the axis, where the hardest particle is, must not fade all others
        some = np.concatenate([np.abs(image[image != 0]) for image in cells.values()])
        limit = float(np.quantile(some, 0.97))
        scale = {"cmap": _DIVERGING, "vmin": -limit, "vmax": limit}
    for axes, (name, image) in zip(panels, cells.items(), strict=False):
        shown = image if signed else np.maximum(image, largest / 1e4)
        edges = np.linspace(-size, size, len(image) + 1)
        mesh = axes.pcolormesh(edges, edges, shown, rasterized=True, **scale)
        axes.set_title(name, fontsize=11, parse_math=False)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set(xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$ [rad]")
        axes.label_outer()
    figure.colorbar(mesh, ax=panels, location="bottom", label=label, fraction=0.05, aspect=40)
    return figure


@figure_style()
def attention_figure(profiles: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Attention relative to a uniform one against each pair feature, a line for each layer.

    Parameters
    ----------
    profiles : mapping of str to (edges, profile)
        As from :meth:`pcloud.interpret.attention.AttentionMaps.profile`.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    panels = figure.subplots(2, 2, squeeze=False, sharey=True).flat
    for axes, (name, (edges, profile)) in zip(panels, profiles.items(), strict=False):
        edges, profile = np.asarray(edges, dtype=float), np.asarray(profile, dtype=float)
        middle = (edges[1:] + edges[:-1]) / 2
        for i, (line, style) in enumerate(zip(profile, line_styles(len(profile)), strict=True)):
            axes.plot(middle, line, label=f"layer {i + 1}", **{**style, "linewidth": 1.4})
        axes.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel=name, yscale="log")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    figure.supylabel("attention over uniform", fontsize=12)
    return figure


@figure_style()
def heatmaps_figure(images: Sequence[Mapping[str, Any]], method: str, *, label: str) -> Figure:
    """Images, and beside each what its pixels add to the response: red for the class, blue against.

    Parameters
    ----------
    images : sequence of mapping
        Each with a ``title``, an ``image`` (H, W) and, by method, the ``values`` (H, W).
    method : str
        Which of them.
    label : str
        What the colour means.

    Returns
    -------
    Figure
        Grey levels grow with the root of the pixel; all colours are on one scale.
    """
    rows = -(-len(images) // 2)
    figure = Figure(figsize=(WIDTH, 0.7 + 1.35 * rows))
    panels = figure.subplots(rows, 4, squeeze=False).flat
    values = [np.asarray(image["values"][method], dtype=float) for image in images]
    largest = float(np.quantile(np.abs(np.stack(values)), 0.998)) or 1.0
    for image, value in zip(images, values, strict=True):
        left, right = next(panels), next(panels)
        grey = np.sqrt(np.maximum(np.asarray(image["image"], dtype=float), 0))
        left.imshow(grey, cmap="Greys", interpolation="nearest")
        left.set_title(image["title"], fontsize=8, loc="left", parse_math=False)
        drawn = right.imshow(
            value, cmap=_DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest"
        )
    for axes in figure.axes:
        axes.set_axis_off()
    figure.colorbar(
        drawn, ax=figure.axes, location="bottom", label=label, fraction=0.05, aspect=40, shrink=0.9
    )
    return figure
