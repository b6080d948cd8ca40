"""How a training went: loss and metrics against the epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure

Curve = tuple[NDArray[np.floating], NDArray[np.floating]]  # epochs, values

PANELS = {
    "loss": ("train_loss", "val_loss"),
    "accuracy": ("train_acc", "val_acc"),
    "AUC": ("train_auc", "val_auc"),
    "learning rate": ("lr",),
}
_BEST = {"loss": np.argmin, "accuracy": np.argmax, "AUC": np.argmax}
_NAMES = {"train": "training", "val": "validation", "lr": ""}


@figure_style()
def training_figure(history: Mapping[str, Curve]) -> Figure:
    """Loss, accuracy, AUC and learning rate against the epoch, as far as they were logged.

    Parameters
    ----------
    history : mapping of str to (epochs, values)
        Curves by the names of the columns of ``metrics.csv``: ``train_loss``, ``val_loss``,
        ``train_acc``, ``val_acc``, ``val_auc``, ``lr``. The best validation value is marked.

    Returns
    -------
    Figure
        A panel for each quantity, one below the other.

    Raises
    ------
    InputError
        If `history` has none of these.
    """
    shown = {
        title: [name for name in names if name in history and len(history[name][0])]
        for title, names in PANELS.items()
    }
    shown = {title: names for title, names in shown.items() if names}
    if not shown:
        raise InputError(f"no training curve among {sorted(history)}: nothing to draw")
    figure, panels = new_figure(0.4 + 1.9 * len(shown), rows=len(shown))
    for axes, (title, names) in zip(panels, shown.items(), strict=True):
        _draw(axes, title, {name: history[name] for name in names})
        axes.sharex(panels[0])
        axes.label_outer()
    panels[-1].set_xlabel("epoch")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw(axes: Axes, title: str, curves: Mapping[str, Curve]) -> None:
    for name, (epochs, values) in curves.items():
        kind = name.partition("_")[0]
        color = {"train": COLORS[1], "val": COLORS[0]}.get(kind, MUTED)
        marker = "o" if len(epochs) < 30 else None
        axes.plot(epochs, values, color=color, marker=marker, markersize=3.5, label=_NAMES[kind])
        if kind == "val":
            _mark_best(axes, epochs, values, int(_BEST[title](values)), color)
    axes.set_title(title, loc="left")
    if title == "learning rate":
        if any((values > 0).any() for _, values in curves.values()):  # one epoch may end at 0
            axes.set_yscale("log")
    else:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            labelcolor="linecolor",
            borderaxespad=0.2,
            handlelength=1,
        )


def _mark_best(
    axes: Axes,
    epochs: NDArray[np.floating],
    values: NDArray[np.floating],
    best: int,
    color: str,
) -> None:
    axes.plot(epochs[best], values[best], "o", markersize=9, markerfacecolor="none", color=color)
