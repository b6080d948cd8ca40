"""Figures of a CNN: filters, activations by class, misclassified images, mean images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures.style import WIDTH, figure_style, new_figure
from pcloud.images.group_conv import GroupConv2d, LiftingConv2d
from pcloud.images.image_set import ScaledNetwork, check_scale
from pcloud.images.layers import MapLinear
from pcloud.text import for_figure

__all__ = [
    "activation_figure",
    "average_image_figure",
    "class_activations",
    "filter_figure",
    "filters_figure",
    "filters_of",
    "misclassified_figure",
]


Convolution = nn.Conv2d | MapLinear | LiftingConv2d | GroupConv2d


def convolutions(model: nn.Module) -> dict[str, Convolution]:
    """Convolutions of a network by name; for a network of a run without the prefix of its scale."""
    if isinstance(model, ScaledNetwork):
        model = model.network
    modules = dict(model.named_modules())
    return {name: layer for name, layer in modules.items() if isinstance(layer, Convolution)}


@figure_style()
def filter_figure(model: nn.Module, layer: str | None = None, *, most: int = 32) -> Figure:
    """Draw the filters of a convolution, one row for each input channel or orientation.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    layer : str, optional
        Name of a convolution; by default the first.
    most : int
        Maximum number of filters.

    Returns
    -------
    Figure
        Figure in which blue is negative and red is positive, on one scale for all filters.

    Raises
    ------
    UnknownNameError
        If there is no such convolution.
    InputError
        If there are no convolutions.
    """
    name, values = filters_of(model, layer)
    return filters_figure(name, values[:most, :8])


def filters_of(model: nn.Module, layer: str | None = None) -> tuple[str, NDArray[np.floating]]:
    """Name of a convolution, by default of the first, and its filters.

    Returns
    -------
    str
        Name of the convolution.
    ndarray, shape (C_out, C_in, k, k)
        Filters; of equivariant layers with the orientations in the place of the input channels, or
        beside them.

    Raises
    ------
    UnknownNameError
        If there is no such convolution.
    InputError
        If there are no convolutions.
    """
    known = convolutions(model)
    if not known:
        raise InputError("this network has no convolutions")
    name = layer or next(iter(known))
    if name not in known:
        raise UnknownNameError("convolution", name, known)
    module = known[name]
    if isinstance(module, LiftingConv2d):
        return name, module.filters().detach().cpu()[:, :, 0].numpy()  # (C_out, G, k, k)
    return name, module.weight.detach().cpu().flatten(1, -3).numpy()  # (C_out, C_in [G], k, k)


@figure_style()
def filters_figure(name: str, filters: NDArray[np.floating]) -> Figure:
    """Draw filters, one column each, on one scale on which blue is negative and red is positive.

    Parameters
    ----------
    name : str
        Name of the convolution.
    filters : ndarray, shape (C_out, C_in, k, k)
        The filters, with input channels or orientations.
    """
    figure, panels = _tiles(filters.shape[1], len(filters))
    largest = float(np.abs(filters).max())
    for i, axes in enumerate(panels):
        row, column = divmod(i, len(filters))
        _show(axes, filters[column, row], cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.suptitle(f"Filters of {for_figure(name)}", fontsize=11)
    return figure


def class_activations(
    model: nn.Module,
    images: Tensor,
    labels: ArrayLike,
    *,
    batch_size: int = 128,
    num_classes: int | None = None,
) -> dict[str, NDArray[np.floating]]:
    """Mean activation of each convolution for each class, after ReLU.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode.
    images : Tensor, shape (B, C, H, W)
        Inputs of the network: stored images, uint8 or float, for the ``run.model()`` of a run.
    labels : array of int, shape (B,)
        True classes.
    batch_size : int
        Number of images in a forward pass.
    num_classes : int, optional
        Number of classes; by default up to the largest label.

    Returns
    -------
    dict of str to ndarray, shape (classes, channels)
        Means over images, pixels and orientations, by the name of the convolution.

    Raises
    ------
    InputError
        If the images are integers and the network does not contain their scale.
    """
    check_scale(model, images)
    truth = torch.as_tensor(np.asarray(labels))
    number = num_classes or int(truth.max()) + 1
    counts = torch.bincount(truth, minlength=number).clamp(min=1)
    sums: dict[str, Tensor] = {}

    def record(name: str, members: Tensor, maps: Tensor) -> None:
        activations = maps.detach().relu().flatten(2).mean(-1).double().cpu()
        zeros = torch.zeros(number, activations.shape[1], dtype=torch.float64)
        sums.setdefault(name, zeros).index_add_(0, members, activations)

    for start in range(0, len(images), batch_size):
        members = truth[start : start + batch_size]
        hooks = [
            layer.register_forward_hook(
                lambda _, inputs, maps, name=name, members=members: record(name, members, maps)
            )
            for name, layer in convolutions(model).items()
        ]
        try:
            with torch.no_grad():
                model(images[start : start + batch_size])
        finally:
            for hook in hooks:
                hook.remove()
    return {name: (total / counts.unsqueeze(-1)).numpy() for name, total in sums.items()}


@figure_style()
def activation_figure(
    activations: dict[str, NDArray[np.floating]], classes: Sequence[str]
) -> Figure:
    """Draw `class_activations`, one panel for each layer, with classes as rows.

    The activation of each channel is relative to that of its class with the largest one.

    Parameters
    ----------
    activations : dict of str to ndarray, shape (classes, channels)
        Mean activations by the name of the convolution.
    classes : sequence of str
        Names of the classes.
    """
    figure, panels = new_figure(
        0.5 + len(activations) * (0.75 + 0.2 * len(classes)), rows=len(activations)
    )
    for axes, (name, values) in zip(panels, activations.items(), strict=True):
        largest = values.max(axis=0, keepdims=True)
        share = np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(classes)), [for_figure(name) for name in classes], fontsize=9)
        axes.set_xticks([])
        axes.set_title(f"{for_figure(name)}: {values.shape[1]} channels", loc="left", fontsize=10)
        axes.grid(False)
    panels[-1].set_xlabel("channel (mean activation relative to its largest class)")
    return figure


@figure_style()
def misclassified_figure(
    images: Tensor,
    labels: ArrayLike,
    scores: NDArray[np.floating],
    classes: Sequence[str],
    *,
    most: int = 12,
) -> Figure:
    """Draw misclassified images with the scores of the predicted and of the true class.

    Images with the highest score of the predicted class come first.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Stored images.
    labels : array of int, shape (B,)
        True classes.
    scores : ndarray, shape (B, C)
        Probabilities.
    classes : sequence of str
        Names of the classes.
    most : int
        Maximum number of images.

    Raises
    ------
    InputError
        If all images are correctly classified.
    """
    truth = np.asarray(labels)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    if len(wrong) == 0:
        raise InputError(f"all {len(truth)} images are correctly classified")
    wrong = wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:most]
    figure, panels = _tiles(-(-len(wrong) // 4), 4, title=0.42)
    for axes in panels[len(wrong) :]:
        axes.set_axis_off()
    for axes, i in zip(panels, wrong, strict=False):
        _show(axes, _picture(images[i]), cmap="gray")
        first = f"{for_figure(classes[predicted[i]])} {scores[i, predicted[i]]:.2f}"
        second = f"true: {for_figure(classes[truth[i]])} {scores[i, truth[i]]:.2f}"
        axes.set_title(f"{first}\n{second}", fontsize=7.5)
    return figure


@figure_style()
def average_image_figure(
    images: Tensor, labels: ArrayLike, classes: Sequence[str], *, channel: int = 0
) -> Figure:
    """Draw the mean image of each class on one logarithmic colour scale.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images, such as jet images.
    labels : array of int, shape (B,)
        Classes of the images.
    classes : sequence of str
        Names of the classes.
    channel : int
        Index of the channel to draw.
    """
    from matplotlib.colors import LogNorm

    truth = np.asarray(labels)
    means = [images[truth == c, channel].double().mean(0).numpy() for c in range(len(classes))]
    top = max(mean.max() for mean in means)
    figure, panels = _tiles(-(-len(classes) // 2), 2, title=0.25)
    for axes in panels[len(classes) :]:
        axes.set_axis_off()
    for axes, mean, name in zip(panels, means, classes, strict=False):
        shown = np.ma.masked_less_equal(mean, 1e-5 * top)
        drawn = _show(axes, shown, cmap="viridis", norm=LogNorm(1e-5 * top, top))
        axes.set_title(for_figure(name), fontsize=11)
    figure.colorbar(drawn, ax=panels, shrink=0.75, label="mean value of the pixel")
    return figure


def _tiles(rows: int, columns: int, *, title: float = 0.0) -> tuple[Figure, list[Axes]]:
    side = WIDTH / columns
    return new_figure(rows * (side + title) + 0.3, rows, columns)


def _show(axes: Axes, values: Any, **options: Any) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return axes.imshow(values, interpolation="nearest", **options)


def _picture(image: Tensor) -> NDArray[Any]:
    """Image (C, H, W) in the form that matplotlib draws: grey, or colours between 0 and 1."""
    values = image.detach().cpu().numpy()
    if len(values) != 3:
        return values[0]
    return np.moveaxis(values, 0, -1) / max(float(values.max()), 1e-12)
