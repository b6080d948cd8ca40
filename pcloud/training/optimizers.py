"""The optimizers of the recipes, with weight decay only where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from pcloud.errors import UnknownNameError

__all__ = ["OPTIMIZERS", "adamw", "build_optimizer", "lion", "parameter_groups", "ranger"]


def parameter_groups(
    model: nn.Module, weight_decay: float, lr_of: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: with weight decay and without.

    Without are biases, scales of normalisations and other vectors, and what the model names in a
    set ``no_weight_decay`` of parameter names, such as a class token. Parameters with a learning
    rate of their own in `lr_of`, by name, follow in groups of their own.
    """
    exempt = set(getattr(model, "no_weight_decay", ()))
    lr_of = lr_of or {}
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for lr in [None, *sorted(set(lr_of.values()))]:
        own: dict[str, Any] = {} if lr is None else {"lr": lr}
        part = [(name, p) for name, p in trainable if lr_of.get(name) == lr]
        decayed = [p for name, p in part if p.ndim > 1 and name not in exempt]
        others = [p for name, p in part if p.ndim <= 1 or name in exempt]
        groups.append({"params": decayed, "weight_decay": weight_decay, **own})
        groups.append({"params": others, "weight_decay": 0.0, **own})
    return [group for group in groups if group["params"]]


def ranger(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Ranger: Lookahead (k = 6, alpha = 0.5) over RAdam (betas 0.95, 0.999, eps 1e-5).

    As in weaver: the first steps, where RAdam has no estimate of the variance, follow the
    momentum, while the optimizer library's default is to skip them.

    References
    ----------
    Liu et al., `arXiv:1908.03265 <https://arxiv.org/abs/1908.03265>`_; Zhang et al.,
    `arXiv:1907.08610 <https://arxiv.org/abs/1907.08610>`_.
    """
    from pytorch_optimizer import Lookahead, RAdam

    radam = RAdam(groups, lr=lr, betas=(0.95, 0.999), eps=1e-5, degenerated_to_sgd=True)
    return Lookahead(radam, k=6, alpha=0.5)


def adamw(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """AdamW with the usual betas 0.9, 0.999."""
    return torch.optim.AdamW(groups, lr=lr, foreach=True)


def lion(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Lion with betas 0.9, 0.99.

    References
    ----------
    Chen et al., `arXiv:2302.06675 <https://arxiv.org/abs/2302.06675>`_.
    """
    from pytorch_optimizer import Lion

    return Lion(groups, lr=lr, betas=(0.9, 0.99))


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "lion": lion,
    "ranger": ranger,
}


def build_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    lr_of: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Make an optimizer for the trainable parameters of a model, some with a rate of their own."""
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](parameter_groups(model, weight_decay, lr_of), lr)
