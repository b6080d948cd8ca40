"""Figures of first steps with networks: boundaries, optimizers, capacity, softmax, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.evaluation.figures.style import COLORS, figure_style, line_styles, new_figure
from pcloud.nn.activations import ACTIVATIONS
from pcloud.tables.table import Table
from pcloud.text import for_figure
from pcloud.training.optimizers import build_optimizer
from pcloud.training.run_folder import RunFolder
from pcloud.typing import Floats

__all__ = [
    "activation_figure",
    "band_figure",
    "boundary_figure",
    "capacity_figure",
    "optimizer_path",
    "paths_figure",
    "softmax_figure",
    "steps_figure",
    "steps_until",
]

_CELLS = 121  # per axis of a map
_MAX_POINTS = 1000

Loss = Callable[[Tensor], Tensor]
"""Function of the parameters (2,) whose value is minimised."""


@figure_style()
def boundary_figure(run: RunFolder, table: Table, *, signal: int = 1) -> Figure:
    """Draw the probability of a class in the plane of two columns, and some events.

    Parameters
    ----------
    run : RunFolder
        Run on a table with two columns.
    table : Table
        Labelled events.
    signal : int
        Index of the class.

    Raises
    ------
    InputError
        If the network takes another number of columns.
    """
    names = run.feature_set.names
    if len(names) != 2:
        raise InputError(f"a boundary in the plane needs two columns, not {len(names)}")
    x, y = (_range(table.columns[name]) for name in names)
    grid = np.meshgrid(x, y)
    cells = [np.asarray(part.reshape(-1), dtype=np.float64) for part in grid]
    points = Table(columns=dict(zip(names, cells, strict=True)))
    score = run.predict(points)[:, signal].reshape(grid[0].shape)
    figure, (axes,) = new_figure(4.5)
    shown = axes.pcolormesh(x, y, score, cmap="RdBu_r", vmin=0, vmax=1, rasterized=True)
    axes.contour(x, y, score, [0.5], colors="black")
    labels = np.asarray(table.label)[:_MAX_POINTS]
    for label, name in enumerate(run.classes):
        inside = np.flatnonzero(labels == label)
        places = [table.columns[n][inside] for n in names]
        style = {"s": 8, "color": COLORS[label], "edgecolors": "white", "linewidths": 0.3}
        axes.scatter(*places, label=for_figure(name), **style)  # type: ignore[arg-type]
    axes.set_xlabel(for_figure(names[0]))
    axes.set_ylabel(for_figure(names[1]))
    figure.colorbar(shown, label=f"probability of {for_figure(run.classes[signal])}")
    figure.legend(loc="outside upper center", ncols=len(run.classes))
    return figure


def optimizer_path(
    name: str, loss: Loss, start: Sequence[float], *, lr: float, steps: int = 100
) -> Floats:
    """Parameters of a loss of two numbers at each step of an optimizer.

    Parameters
    ----------
    name : str
        Name in :data:`pcloud.training.optimizers.OPTIMIZERS`.
    loss : callable
        Function ``loss(parameters (2,)) -> ()``.
    start : sequence of float
        Parameters before the first step.
    lr : float
        Learning rate.
    steps : int
        Number of steps.

    Returns
    -------
    ndarray, shape (steps + 1, 2)
    """
    model = _Parameters(start)
    optimizer = build_optimizer(name, model, lr)

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(model.values)
        value.backward()
        return value

    path = [model.values.detach().clone()]
    for _ in range(steps):
        optimizer.step(closure)
        path.append(model.values.detach().clone())
    return torch.stack(path).double().numpy()


class _Parameters(nn.Module):
    """Parameters (2,) of a loss."""

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(start, dtype=torch.float64))


@figure_style()
def paths_figure(paths: Mapping[str, Floats], loss: Loss) -> Figure:
    """Draw the paths (S, 2) of optimizers by name, over contours of the loss."""
    every = np.concatenate([path[np.isfinite(path).all(axis=1)] for path in paths.values()])
    x, y = (_range(every[:, i]) for i in (0, 1))
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1))
    values = torch.stack([torch.stack([loss(p) for p in row]) for row in grid]).numpy()
    figure, (axes,) = new_figure(4.5)
    axes.contour(x, y, np.log1p(values - values.min()), 20, cmap="Greys")
    for (name, path), style in zip(paths.items(), line_styles(len(paths)), strict=True):
        axes.plot(*path.T, label=for_figure(name), **style)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel("first parameter")
    axes.set_ylabel("second parameter")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def steps_until(history: Sequence[float], target: float) -> float:
    """Number of epochs after which a loss is at most `target`; NaN if it never is.

    Parameters
    ----------
    history : sequence of float
        Loss after each epoch.
    target : float
        Loss to reach.
    """
    reached = np.flatnonzero(np.asarray(history) <= target)
    return float(reached[0] + 1) if len(reached) else float("nan")


@figure_style()
def steps_figure(found: Mapping[str, Mapping[float, Sequence[float]]], *, what: str) -> Figure:
    """Draw the number of epochs or steps until a loss, by optimizer and learning rate.

    Parameters
    ----------
    found : mapping of str to mapping of float to sequence of float
        By optimizer and learning rate, the number for each seed; NaN where it was not reached.
    what : str
        Label of the axis, such as ``"epochs until a loss of 0.3"``.
    """
    figure, (axes,) = new_figure(4.0)
    for (name, by_rate), style in zip(found.items(), line_styles(len(found)), strict=True):
        rates = [rate for rate, values in by_rate.items() if np.isfinite(values).all()]
        middle = [float(np.median(by_rate[rate])) for rate in rates]
        low = [m - np.min(by_rate[rate]) for rate, m in zip(rates, middle, strict=True)]
        high = [np.max(by_rate[rate]) - m for rate, m in zip(rates, middle, strict=True)]
        axes.errorbar(rates, middle, [low, high], label=for_figure(name), capsize=2, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel(for_figure(what))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


@figure_style()
def capacity_figure(found: Mapping[float, tuple[float, float]], *, what: str) -> Figure:
    """Draw training and validation loss against the width of a network or the number of events.

    Parameters
    ----------
    found : mapping of float to (float, float)
        Training and validation loss by width or number of events.
    what : str
        Label of the axis.
    """
    figure, (axes,) = new_figure(4.0)
    for i, name in enumerate(("training", "validation")):
        losses = [pair[i] for pair in found.values()]
        axes.plot(list(found), losses, "o-", color=COLORS[i], label=name)
    axes.set_xscale("log")
    axes.set_xlabel(for_figure(what))
    axes.set_ylabel("loss")
    axes.legend()
    return figure


@figure_style()
def softmax_figure(scales: Sequence[float] = (1, 10, 100)) -> Figure:
    """Draw ``log(sum(exp(s z))) / s`` of two numbers beside their maximum, and their softmax.

    The first row has contours for each scale s and of the maximum; the second has the first
    component of ``softmax(s z)`` and of the one-hot argmax as images.

    Parameters
    ----------
    scales : sequence of float
        Values of s.
    """
    z = torch.linspace(-1, 1, _CELLS, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(z, z, indexing="xy"), dim=-1)
    columns = len(scales) + 1
    figure, panels = new_figure(4.0, rows=2, columns=columns, sharex=True, sharey=True)
    for axes, scale in zip(panels, [*scales, None], strict=False):
        values = plane.amax(-1) if scale is None else (scale * plane).logsumexp(-1) / scale
        axes.contour(z.numpy(), z.numpy(), values.numpy(), 10)
        axes.set_title("maximum" if scale is None else f"s = {scale:g}", fontsize=10)
    for axes, scale in zip(panels[columns:], [*scales, None], strict=True):
        first = (
            (plane[..., 0] > plane[..., 1])
            if scale is None
            else (scale * plane).softmax(-1)[..., 0]
        )
        axes.pcolormesh(
            z.numpy(), z.numpy(), first.double().numpy(), vmin=0, vmax=1, rasterized=True
        )
    return figure


@figure_style()
def activation_figure() -> Figure:
    """Draw all activation functions of one number."""
    z = torch.linspace(-4, 4, 401)
    functions = {name: make() for name, make in ACTIVATIONS.items() if make is not None}
    figure, (axes,) = new_figure(4.0)
    for (name, function), style in zip(functions.items(), line_styles(len(functions)), strict=True):
        axes.plot(z.numpy(), function(z).detach().numpy(), label=for_figure(name), **style)
    axes.set_ylim(-2, 4)
    axes.set_xlabel("input")
    axes.set_ylabel("output")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


@figure_style()
def band_figure(
    x: Floats, samples: Floats, table: Table, *, column: str, target: str, label: str
) -> Figure:
    """Draw the mean and the spread of several predictions of a curve, and the training events.

    Parameters
    ----------
    x : ndarray, shape (G,)
        Values of the input, also outside the range of the training.
    samples : ndarray, shape (S, G)
        Predictions, such as those of the members of an ensemble or of passes with dropout.
    table : Table
        Training events.
    column, target : str
        Names of the input and of the target.
    label : str
        Name of the predictions.
    """
    figure, (axes,) = new_figure(4.0)
    mean, spread = samples.mean(axis=0), samples.std(axis=0)
    axes.fill_between(x, mean - spread, mean + spread, color=COLORS[0], alpha=0.3, lw=0)
    axes.plot(x, mean, color=COLORS[0], label=for_figure(label))
    shown = slice(0, _MAX_POINTS)
    axes.plot(
        table.columns[column][shown], table.targets[target][shown], ".", ms=2, color=COLORS[1]
    )
    axes.set_xlabel(for_figure(column))
    axes.set_ylabel(for_figure(target))
    axes.legend()
    return figure


def _range(values: Floats) -> Floats:
    """Grid over the range of some values, and a little beyond."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, _CELLS)
