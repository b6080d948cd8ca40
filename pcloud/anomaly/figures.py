"""Figures of autoencoders: error against the size of the code, and images before and after."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.evaluation.measured import Measured
from pcloud.text import for_figure

__all__ = ["code_size_figure", "images_figure"]


@figure_style()
def code_size_figure(errors: Mapping[int, Measured]) -> Figure:
    """Draw the mean error of autoencoders of images against the size of their code.

    Parameters
    ----------
    errors : mapping of int to Measured
        Mean error, in units of the variance of the images, by the number of values of the code.
    """
    figure, (axes,) = new_figure(3.5)
    values = [error.value for error in errors.values()]
    ends = list(zip(*(error.sides() for error in errors.values()), strict=True))
    axes.errorbar(list(errors), values, ends, fmt="o-", color=COLORS[0], capsize=2)
    axes.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(errors), [str(size) for size in errors])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the code")
    axes.set_ylabel("error / variance of the images")
    return figure


@figure_style()
def images_figure(rows: Mapping[str, Tensor], *, number: int = 4) -> Figure:
    """Draw rows of images with a common scale, such as images, noisy ones and reconstructions.

    Parameters
    ----------
    rows : mapping of str to Tensor, shape (B, C, H, W)
        Images by the name of their row; the first channel is drawn.
    number : int
        Number of images of a row.
    """
    low, high = 0.0, max(float(images[:number, 0].quantile(0.999)) for images in rows.values())
    size = {"rows": len(rows), "columns": number}
    figure, panels = new_figure(1.3 * len(rows), **size, sharex=True, sharey=True)
    for row, (name, images) in enumerate(rows.items()):
        for axes, image in zip(panels[number * row :], images[:number], strict=False):
            axes.imshow(image[0].cpu().numpy(), vmin=low, vmax=high)
            axes.set_xticks([])
            axes.set_yticks([])
        panels[number * row].set_ylabel(for_figure(name))
    return figure
