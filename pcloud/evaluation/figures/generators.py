"""Figures of the training and of the samples of small generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.text import for_figure
from pcloud.typing import Floats

__all__ = ["generator_curves_figure", "images_figure", "points_figure"]

_SMOOTHED = 50  # steps of the running mean


@figure_style()
def generator_curves_figure(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the recorded quantities of a training, as running means over 50 steps.

    The outputs of a discriminator on real and generated vectors, ``real`` and ``generated``, share
    a panel with the line at 0.5 to which they tend.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        As from :func:`pcloud.generative.fit_generator`.
    """
    outputs = [name for name in ("real", "generated") if name in curves]
    others = [name for name in curves if name not in outputs]
    panels = [*([outputs] if outputs else []), *([name] for name in others)]
    figure, axes_of = new_figure(0.6 + 1.9 * len(panels), rows=len(panels), sharex=True)
    for axes, names in zip(axes_of, panels, strict=True):
        for name, color in zip(names, COLORS, strict=False):
            values = np.asarray(curves[name], dtype=float)
            width = min(_SMOOTHED, len(values))
            means = np.convolve(values, np.ones(width) / width, mode="valid")
            steps = np.arange(width, len(values) + 1)
            axes.plot(steps, means, color=color, lw=1.4, label=for_figure(name))
        if names == outputs:
            axes.axhline(0.5, color=MUTED, lw=1.0, ls=":")
            axes.set_ylim(0, 1)
            axes.set_ylabel("discriminator")
            axes.legend(ncols=2)
        else:
            axes.set_ylabel(for_figure(names[0]))
    axes_of[-1].set_xlabel("step")
    return figure


@figure_style()
def points_figure(real: Floats, generated: Floats, labels: Floats) -> Figure:
    """Draw real and generated points of the plane, coloured by class.

    Parameters
    ----------
    real, generated : ndarray, shape (B, 2)
        Points.
    labels : ndarray, shape (B,)
        Classes of both.
    """
    figure, panels = new_figure(2.7, 1, 2, sharex=True, sharey=True)
    for axes, points, title in zip(panels, (real, generated), ("real", "generated"), strict=True):
        for label in np.unique(labels):
            own = points[labels == label]
            color = COLORS[int(label) % len(COLORS)]
            axes.plot(*own.T, ls="", marker=".", ms=2, color=color)
        axes.set_title(title)
    return figure


@figure_style()
def images_figure(rows: Mapping[str, Floats]) -> Figure:
    """Draw rows of images.

    Parameters
    ----------
    rows : mapping of str to ndarray, shape (N, H, W)
        Images of each row, by its title.
    """
    number = max(len(images) for images in rows.values())
    figure, panels = new_figure(0.3 + 0.62 * len(rows), len(rows), number)
    for axes in panels:
        axes.set_axis_off()
    for i, (title, images) in enumerate(rows.items()):
        for j, image in enumerate(images):
            panels[i * number + j].imshow(image, cmap="gray_r", vmin=0)
        panels[i * number].set_title(for_figure(title), fontsize=9, loc="left")
    return figure
