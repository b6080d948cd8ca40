"""Layers of a model with output shape, parameters, operations and receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.models.flops import count_flops
from pcloud.models.registry import build_model, model_info, takes_option

__all__ = ["model_summary"]

_INPUTS, _PARTICLES = 7, 50
_IMAGE, _RECORD = (28, 28), (512,)
_GRADES = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Conv1d)


def model_summary(name: str, size: Sequence[int] | None = None) -> list[list[str]]:
    """Table of the layers of a model without further layers inside, in the order of their calls.

    The model takes one jet of 50 particles with 7 features, an image of one channel, a row of 7
    columns or a record of one channel.

    Parameters
    ----------
    name : str
        Registered name of the model.
    size : sequence of int, optional
        Height and width of the image, by default 28 x 28, or length of the record, by default 512.

    Returns
    -------
    list of list of str
        Header, a row for each layer, and the sum.

    Raises
    ------
    UnknownNameError
        If there is no such model.
    InputError
        If the size does not fit.
    """
    model, inputs = _example(name, size)
    rows: list[list[str]] = []
    fields: dict[str, str] = {}
    handles = []
    field = _ReceptiveField()

    def record(layer: nn.Module, label: str, outputs: Any) -> None:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else ()
        if isinstance(layer, _GRADES):
            fields[label] = field.after(layer)
        number = sum(p.numel() for p in layer.parameters())
        kind = type(layer).__name__
        shown = " x ".join(map(str, shape)) or "-"
        rows.append([label, kind, shown, f"{number:,}" if number else "", fields.get(label, "")])

    for label, layer in model.named_modules():
        if label and not list(layer.children()):
            hook = lambda m, _, outputs, label=label: record(m, label, outputs)  # noqa: E731
            handles.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        model.eval()(*inputs)
    for handle in handles:
        handle.remove()
    total = sum(p.numel() for p in model.parameters())
    flops = f"{count_flops(model, *inputs) / 1e6:.3g} MFLOP"
    header = ["layer", "type", "output", "parameters", "receptive field"]
    return [header, *rows, ["all", flops, "", f"{total:,}", ""]]


class _ReceptiveField:
    """Size in pixels of what a value of a layer depends on, for layers one after the other."""

    def __init__(self) -> None:
        self.size = 1
        self.step = 1

    def after(self, layer: Any) -> str:
        """Size after a convolution or pooling."""
        kernel, stride, dilation = (_first(getattr(layer, n, 1)) for n in _SIZES)
        self.size += (kernel - 1) * dilation * self.step
        self.step *= stride
        return str(self.size)


_SIZES = ("kernel_size", "stride", "dilation")


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _example(name: str, size: Sequence[int] | None) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Model with random weights, and inputs of one entry."""
    kind = model_info(name).kind
    lengths = {"image": _IMAGE, "series": _RECORD}.get(kind, ())
    given = tuple(size) if size else lengths
    if len(given) != len(lengths) or any(side < 1 for side in given):
        raise InputError(f"model {name!r}: size takes {len(lengths)} positive numbers, not {size}")
    if kind == "image":
        options: dict[str, Any] = {"size": list(given)} if takes_option(name, "size") else {}
        return build_model(name, 1, 2, **options), (torch.randn(1, 1, *given),)
    if kind == "series":
        options = {"length": given[0]} if takes_option(name, "length") else {}
        return build_model(name, 1, 2, **options), (torch.randn(1, 1, *given),)
    if kind == "table":
        return build_model(name, _INPUTS, 2), (torch.randn(1, _INPUTS),)
    if kind != "cloud":
        raise InputError(f"model {name!r} is of kind {kind}, whose layers cannot be listed")
    index = torch.arange(_PARTICLES, dtype=torch.float64)
    pt, eta, phi = 100 / (1 + index), 0.4 * torch.sin(index), 0.4 * torch.cos(2.4 * index)
    p4 = kinematics.from_pt_eta_phi_mass(pt, eta, phi, torch.zeros_like(pt)).float()
    x = torch.randn(_PARTICLES, _INPUTS)
    return build_model(name, _INPUTS, 2), (x, p4, torch.zeros(_PARTICLES, dtype=torch.long))
