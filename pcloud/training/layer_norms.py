"""Activations and gradients of each layer during a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pcloud.evaluation.figures.style import COLORS, figure_style, new_figure
from pcloud.run_files import LAYER_NORMS_FILE, StoredResult
from pcloud.text import for_figure
from pcloud.training.module import JetData

__all__ = ["LayerNorms", "LayerNormsCallback", "layer_norms_figure"]

Row = dict[str, float]

_MAX_DRAWN = 40  # layers in a figure


@dataclass
class LayerNorms(StoredResult):
    """Root mean square of the output of each layer, and norm of the gradient of its parameters.

    They are those of the first batch of an epoch. A layer is a module with parameters of its own.
    A fused kernel does not call the layers inside it; their activations are then NaN.

    Attributes
    ----------
    activations : dict of int to dict of str to float
        Root mean square of the output by epoch and layer, in the order of the network.
    gradients : dict of int to dict of str to float
        Norm of the gradient of the parameters, before it is clipped, by epoch and layer.
    """

    activations: dict[int, Row] = field(default_factory=dict)
    gradients: dict[int, Row] = field(default_factory=dict)

    file: ClassVar[str] = LAYER_NORMS_FILE
    what: ClassVar[str] = "norms of layers"
    command: ClassVar[str] = "pcloud train --layer-norms true --overwrite"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"activations": self.activations, "gradients": self.gradients}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LayerNorms:
        """Inverse of `to_dict`."""
        return cls(_by_epoch(values["activations"]), _by_epoch(values["gradients"]))

    def rows(self) -> list[list[str]]:
        """Table of all layers in the first and the last epoch."""
        epochs = sorted({min(self.gradients), max(self.gradients)}) if self.gradients else []
        header = [f"{what}, epoch {e}" for what in ("activation", "gradient") for e in epochs]
        names = list(self.gradients[epochs[0]]) if epochs else []
        cells = [
            [
                _cell(values[e].get(name))
                for values in (self.activations, self.gradients)
                for e in epochs
            ]
            for name in names
        ]
        return [["layer", *header], *([n, *row] for n, row in zip(names, cells, strict=True))]


def _by_epoch(values: Mapping[str, Mapping[str, float | None]]) -> dict[int, Row]:
    return {
        int(epoch): {str(n): math.nan if v is None else float(v) for n, v in row.items()}
        for epoch, row in values.items()
    }


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3g}"


class LayerNormsCallback(L.Callback):
    """Callback that records the norms of the layers once an epoch, and writes them.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    norms : LayerNorms
        Norms of the epochs before, for a continued run.
    data : JetData
        Batches of the training, which know the epoch.
    """

    def __init__(self, folder: Path, norms: LayerNorms, data: JetData) -> None:
        self.folder = folder
        self.norms = norms
        self.data = data
        self._handles: list[RemovableHandle] = []
        self._outputs: Row = {}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Watch the outputs of the layers, in a batch that is recorded."""
        epoch = self.data.epoch + 1
        if epoch in self.norms.gradients:
            return
        self._outputs = {}
        for name, layer in _layers(pl_module.model):
            hook = lambda m, _, outputs, name=name: self._record(name, outputs)  # noqa: E731
            self._handles.append(layer.register_forward_hook(hook))

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record gradients, and the outputs that were seen."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        layers = _layers(pl_module.model)
        epoch = self.data.epoch + 1
        self.norms.activations[epoch] = {n: self._outputs.get(n, math.nan) for n, _ in layers}
        self.norms.gradients[epoch] = {name: _gradient(layer) for name, layer in layers}
        self.norms.write(self.folder)

    def _record(self, name: str, outputs: Any) -> None:
        if isinstance(outputs, Tensor) and outputs.numel():
            self._outputs[name] = float(outputs.detach().float().square().mean().sqrt())


def _layers(model: Any) -> list[tuple[str, nn.Module]]:
    """Modules with trained parameters of their own, by name."""
    return [
        (name or type(model).__name__, layer)
        for name, layer in model.named_modules()
        if any(p.requires_grad for p in layer.parameters(recurse=False))
    ]


def _gradient(layer: nn.Module) -> float:
    gradients = [p.grad.detach() for p in layer.parameters(recurse=False) if p.grad is not None]
    if not gradients:
        return math.nan
    return float(torch.stack([g.float().norm() for g in gradients]).norm())


@figure_style()
def layer_norms_figure(norms: LayerNorms) -> Figure:
    """Draw activations and gradients of each layer in the first, the middle and the last epoch.

    In a network of more than 40 layers, some of them are left out evenly.
    """
    epochs = sorted(norms.gradients)
    shown = sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    names = list(norms.gradients[epochs[0]])
    names = names[:: math.ceil(len(names) / _MAX_DRAWN)]
    places = np.arange(len(names))
    figure, panels = new_figure(1.6 + 0.2 * len(names), columns=2, sharey=True)
    titles = ("activation (rms)", "norm of gradient")
    for axes, title, values in zip(
        panels, titles, (norms.activations, norms.gradients), strict=True
    ):
        for epoch, color in zip(shown, COLORS, strict=False):
            row = [values[epoch].get(name, math.nan) for name in names]
            axes.plot(row, places, "o-", ms=4, lw=1, color=color, label=f"epoch {epoch}")
        axes.set_xscale("log")
        low, high = (math.log10(x) for x in axes.get_xlim())
        axes.set_xlim(10 ** math.floor(low), 10 ** math.ceil(high))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlabel(title, fontsize=10)
    panels[0].set_yticks(places, [for_figure(name) for name in names], fontsize=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
