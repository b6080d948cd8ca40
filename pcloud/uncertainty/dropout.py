"""Monte Carlo dropout: the dropout of the training, switched on while predicting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from pcloud.errors import InputError
from pcloud.nn.attention.dropout import Dropout

__all__ = ["dropout_switched_on"]


@contextmanager
def dropout_switched_on(model: nn.Module) -> Iterator[None]:
    """Context in which a model in evaluation mode drops entries, and nothing else changes.

    Dropout layers are switched on, and layers that drop by themselves, such as attention, which
    show it by an attribute `dropout`; each alone, not what is inside of it. Batch normalisation
    keeps its running statistics, neither updated nor replaced by those of the batch.

    Raises
    ------
    InputError
        If the model has no dropout.

    References
    ----------
    Gal and Ghahramani, Dropout as a Bayesian Approximation, https://arxiv.org/abs/1506.02142.
    """
    layers = [module for module in model.modules() if _rate(module) > 0]
    if not layers:
        raise InputError(
            "this model has no dropout: train it with some, as by --model-options.dropout 0.1"
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
    """With which probability a module itself drops."""
    if isinstance(module, _DropoutNd | Dropout):
        return float(module.p)
    rate = getattr(module, "dropout", 0.0)
    if isinstance(rate, _DropoutNd | Dropout):
        # the layer may ask for its rate and drop by itself; batch normalisation would not
        return 0.0 if _normalises(module) else float(rate.p)
    return float(rate) if isinstance(rate, int | float) and not _normalises(module) else 0.0


def _normalises(module: nn.Module) -> bool:
    return hasattr(module, "running_mean")
