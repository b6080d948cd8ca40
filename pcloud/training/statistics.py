"""Statistics of batch normalisations, replaced without changing the function of the network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["recompute_batch_norm"]

_Norm = nn.modules.batchnorm._BatchNorm


class _Moments:
    """Number, mean and variance per channel of the inputs of a normalisation."""

    def __init__(self) -> None:
        self.number = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add the inputs of a normalisation, (rows, channels, ...)."""
        x = inputs[0].detach().double().movedim(1, -1).flatten(0, -2)
        if not len(x):
            return
        mean, before = x.mean(0), self.number
        self.number += len(x)
        apart = mean - self.mean
        self.squares = self.squares + ((x - mean) ** 2).sum(0)
        self.squares = self.squares + apart**2 * before * len(x) / self.number
        self.mean = self.mean + apart * len(x) / self.number


def recompute_batch_norm(model: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> int:
    """Recompute the statistics of the batch normalisations of `model` over `batches`.

    Scales and shifts are adjusted so that in evaluation mode the function of the network does not
    change. In training mode, which normalises with the statistics of the batch, the network is
    then close to that function. Without this, a network whose statistics are those of other
    inputs, such as the padded particles of the official codes, changes with the first step.

    Normalisations that are not called as modules, such as LorentzNet's over pairs, are not changed.

    Parameters
    ----------
    model : torch.nn.Module
        The network, changed in place and left in evaluation mode.
    batches : iterable of tuple of Tensor
        Arguments of the model, for a few hundred jets.

    Returns
    -------
    int
        Number of normalisations that were changed.
    """
    norms = [m for m in model.modules() if isinstance(m, _Norm) and m.track_running_stats]
    moments = {norm: _Moments() for norm in norms}
    hooks = [norm.register_forward_pre_hook(m.add) for norm, m in moments.items()]
    try:
        # Without gradients, layers may fold their normalisations instead of calling them.
        for inputs in batches:
            with torch.enable_grad():
                model.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    seen = {norm: m for norm, m in moments.items() if m.number > 1}
    for norm, m in seen.items():
        _restate(norm, m.mean, m.squares / m.number)
    return len(seen)


@torch.no_grad()
def _restate(norm: _Norm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    rstd = (norm.running_var.double() + norm.eps).rsqrt()
    norm.bias.add_(norm.weight.double() * (mean - norm.running_mean.double()) * rstd)
    norm.weight.mul_((variance + norm.eps).sqrt() * rstd)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
