"""Monte Carlo dropout: prediction with the dropout of the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from pcloud.errors import InputError

__all__ = ["dropout_switched_on"]


@contextmanager
def dropout_switched_on(model: nn.Module) -> Iterator[None]:
    """Switch on the dropout of a model in evaluation mode, and change nothing else.

    This applies to dropout layers and to layers that apply dropout themselves, such as attention,
    which have an attribute `dropout`. Their submodules are not switched on with them. Batch
    normalisation uses its running statistics and does not update them.

    Raises
    ------
    InputError
        If the model has no dropout.

    References
    ----------
    Gal and Ghahramani, Dropout as a Bayesian Approximation, https://arxiv.org/abs/1506.02142.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.5)).eval()
    >>> with dropout_switched_on(model):
    ...     model[0].training
    True
    >>> model[0].training
    False
    """
    layers = [module for module in model.modules() if _rate(module) > 0]
    if not layers:
        raise InputError(
            "this model has no dropout: train it with dropout, such as --model-options.dropout 0.1"
        )
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training


def _rate(module: nn.Module) -> float:
    """Dropout probability of a module itself, without its submodules."""
    if isinstance(module, _DropoutNd):
        return float(module.p)
    rate = getattr(module, "dropout", 0.0)
    if isinstance(rate, _DropoutNd):
        # the layer may apply this dropout itself; a layer with batch normalisation does not
        return 0.0 if _normalises(module) else float(rate.p)
    return float(rate) if isinstance(rate, int | float) and not _normalises(module) else 0.0


def _normalises(module: nn.Module) -> bool:
    return hasattr(module, "running_mean")
