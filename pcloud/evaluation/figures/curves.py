"""Training curves: loss and metrics against the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures.style import (
    COLORS,
    MUTED,
    figure_style,
    new_figure,
    single_axes,
)
from pcloud.text import for_figure

Curve = tuple[NDArray[np.floating], NDArray[np.floating]]  # epochs, values


class HasCurves(Protocol):
    """History of a run, see :class:`pcloud.training.history.History`."""

    def curves(self) -> Mapping[str, Curve]:
        """Curves by the names of the columns."""


PANELS = {
    "loss": ("train_loss", "val_loss"),
    "accuracy": ("train_acc", "val_acc"),
    "AUC": ("train_auc", "val_auc"),
    "learning rate": ("lr",),
}
_BEST: dict[str, Callable[..., Any]] = {
    "accuracy": np.argmax,
    "AUC": np.argmax,
    "efficiency": np.argmax,
    "purity": np.argmax,
    "gain": np.argmax,
}  # the others are best where they are lowest
_OF_OBJECTIVES = {"loss": ("train_loss_", "val_loss_"), "resolution": ("val_resolution_",)}
_OF_OBJECTIVES |= {"accuracy": ("val_acc_",), "AUC": ("val_auc_",)}
_OF_OBJECTIVES |= {
    "efficiency": ("val_efficiency_",),
    "purity": ("val_purity_",),
    "gain": ("val_gain_",),
}
_OF_OBJECTIVES |= {"weight": ("weight_",)}
_EQUAL = 1e-9  # relative difference below which learning rates are equal
_NAMES = {"train": "training", "val": "validation", "lr": ""}


def panels_of(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Titles of all panels with their curves: those of `PANELS`, and those of each objective.

    Parameters
    ----------
    names : iterable of str
        Names of the curves.
    """
    found: dict[str, tuple[str, ...]] = {}
    for quantity, starts in _OF_OBJECTIVES.items():
        for start in starts:
            for name in names:
                if name.startswith(start):
                    title = f"{quantity} of {name.removeprefix(start)}"
                    found[title] = (*found.get(title, ()), name)
    return {**PANELS, **found}


@figure_style()
def training_figure(
    history: Mapping[str, Curve] | HasCurves,
    *,
    quantities: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw loss, accuracy, AUC and learning rate against the epoch, as far as they were logged.

    The best validation value is marked.

    Parameters
    ----------
    history : mapping of str to (epochs, values), or History
        The history of a run, or curves by the names of the columns of ``metrics.csv``: ``train_loss``, ``val_loss``,
        ``train_acc``, ``val_acc``, ``train_auc``, ``val_auc``, ``lr``; of several objectives also
        ``train_loss_mass``, ``val_loss_mass`` and others.
    quantities : sequence of str, optional
        Quantities to draw: ``"loss"``, ``"accuracy"``, ``"AUC"``, ``"learning rate"``, and of
        objectives such as ``"loss of mass"``; by default all of them.
    ax : Axes, optional
        Axes to draw a single quantity in; by default those of a new figure.

    Returns
    -------
    Figure
        Figure with one panel for each quantity, one below the other.

    Raises
    ------
    InputError
        If `history` has none of these curves, or there is more than one quantity for `ax`.
    UnknownNameError
        If there is no such quantity.
    """
    if not isinstance(history, Mapping):
        if not hasattr(history, "curves"):
            raise InputError(
                f"training curves are a mapping of names or the history of a run, not {type(history)}"
            )
        history = history.curves()
    shown = {}
    known = panels_of(history)
    for title in quantities or known:
        if title not in known:
            raise UnknownNameError("quantity", title, known)
        names = [name for name in known[title] if name in history and len(history[name][0])]
        if names:
            shown[title] = names
    if not shown:
        raise InputError(f"no training curve among {sorted(history)}: nothing to draw")
    if ax is None:
        figure, panels = new_figure(0.4 + 1.9 * len(shown), rows=len(shown))
    elif len(shown) == 1:
        figure, axes = single_axes(ax)
        panels = [axes]
    else:
        raise InputError(
            f"one axes shows one quantity, not {', '.join(shown)}: give quantities=[...]"
        )
    for axes, (title, names) in zip(panels, shown.items(), strict=True):
        _draw(axes, title, {name: history[name] for name in names})
        if ax is None:
            axes.sharex(panels[0])
            axes.label_outer()
    panels[-1].set_xlabel("epoch")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw(axes: Axes, title: str, curves: Mapping[str, Curve]) -> None:
    is_rate = title == "learning rate"
    if is_rate:
        rates = np.concatenate([values[values > 0] for _, values in curves.values()])
        if len(rates):  # a schedule may end at 0
            axes.set_yscale("log")
        if len(rates) and rates.max() < rates.min() * (1 + _EQUAL):  # limits matplotlib cannot find
            axes.set_ylim(rates[0] / 2, 2 * rates[0])
    for name, (epochs, values) in curves.items():
        kind = name.partition("_")[0]
        color = {"train": COLORS[1], "val": COLORS[0]}.get(kind, MUTED)
        label = _NAMES.get(kind, "")
        marker = "o" if len(epochs) < 30 else None
        axes.plot(epochs, values, color=color, marker=marker, markersize=3.5, label=label)
        if kind == "val":
            _mark_best(axes, epochs, values, int(_best(title)(values)), color)
    axes.set_title(for_figure(title), loc="left")
    if not is_rate and not title.startswith("weight of"):
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            labelcolor="linecolor",
            borderaxespad=0.2,
            handlelength=1,
        )


def _best(title: str) -> Callable[..., Any]:
    """Function that finds the best of several values."""
    best: Callable[..., Any] = _BEST.get(title.partition(" of ")[0], np.argmin)
    return best


def _mark_best(
    axes: Axes,
    epochs: NDArray[np.floating],
    values: NDArray[np.floating],
    best: int,
    color: str,
) -> None:
    axes.plot(epochs[best], values[best], "o", markersize=9, markerfacecolor="none", color=color)
