"""Optimizers of the recipes, with weight decay on matrices only.

torch is imported when an optimizer is built: the command line reads the names for its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pcloud.errors import UnknownNameError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "DECOUPLED",
    "OPTIMIZERS",
    "adam",
    "adamw",
    "build_optimizer",
    "lbfgs",
    "lion",
    "muon",
    "nadam",
    "orthogonalised_groups",
    "parameter_groups",
    "ranger",
]


def parameter_groups(
    model: nn.Module, weight_decay: float, lr_of: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Split the trainable parameters into two groups: with weight decay and without.

    Biases, scales of normalisations and other vectors have no weight decay, nor have the
    parameters that the model names in a set ``no_weight_decay``, such as a class token. Parameters
    with a learning rate of their own in `lr_of`, by name, follow in separate groups.
    """
    exempt = set(getattr(model, "no_weight_decay", ()))
    lr_of = lr_of or {}
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for lr in [None, *sorted(set(lr_of.values()))]:
        rate: dict[str, Any] = {} if lr is None else {"lr": lr}
        part = [(name, p) for name, p in trainable if lr_of.get(name) == lr]
        decayed = [p for name, p in part if p.ndim > 1 and name not in exempt]
        others = [p for name, p in part if p.ndim <= 1 or name in exempt]
        groups.append({"params": decayed, "weight_decay": weight_decay, **rate})
        groups.append({"params": others, "weight_decay": 0.0, **rate})
    return [group for group in groups if group["params"]]


def ranger(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Ranger: Lookahead (k = 6, alpha = 0.5) over RAdam (betas 0.95, 0.999, eps 1e-5).

    As in weaver, the first steps, for which RAdam cannot estimate the variance, follow the
    momentum; pytorch-optimizer skips them by default.

    References
    ----------
    Liu et al., `arXiv:1908.03265 <https://arxiv.org/abs/1908.03265>`_; Zhang et al.,
    `arXiv:1907.08610 <https://arxiv.org/abs/1907.08610>`_.
    """
    from pytorch_optimizer import Lookahead, RAdam

    radam = RAdam(groups, lr=lr, betas=(0.95, 0.999), eps=1e-5, degenerated_to_sgd=True)
    return Lookahead(radam, k=6, alpha=0.5)


def adamw(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """AdamW with betas 0.9, 0.999, in one pass over the parameters."""
    from pcloud.training.stored_optimizers import AdamW

    return AdamW(groups, lr)


def adam(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Adam with betas 0.9, 0.999, in one pass over the parameters."""
    from pcloud.training.stored_optimizers import Adam

    return Adam(groups, lr)


def lion(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Lion with betas 0.9, 0.99.

    References
    ----------
    Chen et al., `arXiv:2302.06675 <https://arxiv.org/abs/2302.06675>`_.
    """
    from pytorch_optimizer import Lion

    return Lion(groups, lr=lr, betas=(0.9, 0.99))


def muon(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Muon (momentum 0.95) for groups with ``use_muon``, AdamW (betas 0.9, 0.95) for the others.

    The update of a matrix is its momentum with all singular values set to about 1, times ``0.2
    sqrt(n)`` for n rows or columns, whichever are more. Its entries are then as large as those of an
    update by AdamW, so that both have the same learning rate and weight decay.

    References
    ----------
    Jordan et al., https://kellerjordan.github.io/posts/muon; Liu et al., `arXiv:2502.16982
    <https://arxiv.org/abs/2502.16982>`_ for the scale.
    """
    from pytorch_optimizer import Muon

    return Muon(groups, lr=lr, use_adjusted_lr=True, adamw_lr=lr, adamw_eps=1e-8)


def orthogonalised_groups(groups: list[dict[str, Any]], model: nn.Module) -> list[dict[str, Any]]:
    """Split each group into the hidden matrices of a network, with ``use_muon``, and the rest.

    The last map of the network, single rows and columns, and parameters of an objective belong to the
    rest.
    """
    from pcloud.models.head import is_last_map

    named = model.named_parameters()
    hidden = {
        id(p) for name, p in named if _is_matrix(p) and not is_last_map(name.rpartition(".")[0])
    }
    split = []
    for group in groups:
        for use_muon in (True, False):
            part = [p for p in group["params"] if (id(p) in hidden) == use_muon]
            split.append({**group, "params": part, "use_muon": use_muon})
    return [group for group in split if group["params"]]


def _is_matrix(p: nn.Parameter) -> bool:
    return p.ndim > 1 and 1 < len(p) < p.numel()


def lbfgs(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """L-BFGS with a line search, see :class:`pcloud.training.stored_optimizers.LBFGS`."""
    from pcloud.training.stored_optimizers import LBFGS

    return LBFGS(groups, lr)


def nadam(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """NAdam with betas 0.9, 0.999."""
    from pcloud.training.stored_optimizers import NAdam

    return NAdam(groups, lr=lr)


def _of_torch(name: str, **options: Any) -> Callable[..., torch.optim.Optimizer]:
    """Optimizer of torch by the name of its class."""

    def build(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        import torch

        return getattr(torch.optim, name)(groups, lr=lr, **options)

    return build


DECOUPLED = ("ranger", "adamw", "lion", "muon")
"""Optimizers whose weight decay is decoupled; that of the others is an L2 term of the loss."""

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "ranger": ranger,
    "adamw": adamw,
    "lion": lion,
    "muon": muon,
    "sgd": _of_torch("SGD"),
    "momentum": _of_torch("SGD", momentum=0.9),
    "nesterov": _of_torch("SGD", momentum=0.9, nesterov=True),
    "adagrad": _of_torch("Adagrad"),
    "adadelta": _of_torch("Adadelta"),
    "rmsprop": _of_torch("RMSprop"),
    "adam": adam,
    "nadam": nadam,
    "lbfgs": lbfgs,
}
"""The optimizers by name; one added here can be named in a configuration."""


def build_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    lr_of: Mapping[str, float] | None = None,
    objective: nn.Module | None = None,
) -> torch.optim.Optimizer:
    """Build an optimizer for the trainable parameters of a model.

    Parameters
    ----------
    name : str
        Name of the optimizer in `OPTIMIZERS`.
    model : torch.nn.Module
        The model.
    lr : float
        Learning rate.
    weight_decay : float
        Weight decay: decoupled for those in `DECOUPLED`, otherwise the factor of half the sum of
        squares in the loss.
    lr_of : mapping of str to float, optional
        Learning rates of the parameters that have their own, by name.
    objective : torch.nn.Module, optional
        Objective, whose own parameters have no weight decay.

    Raises
    ------
    UnknownNameError
        If there is no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    groups = parameter_groups(model, weight_decay, lr_of)
    own = [] if objective is None else list(objective.parameters())
    if own:
        groups.append({"params": own, "weight_decay": 0.0})
    if name == "muon":
        groups = orthogonalised_groups(groups, model)
    return OPTIMIZERS[name](groups, lr)
