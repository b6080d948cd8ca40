"""The three parts of a network with a representation of each particle."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["outputs_and_particles"]


def outputs_and_particles(model: Any, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Outputs and representations from one pass through a network.

    Parameters
    ----------
    model : torch.nn.Module
        Network whose `forward` is the composition of ``particles``, ``pool`` and ``head``.
    *arguments, **options
        Arguments of `forward`.

    Returns
    -------
    Tensor, shape (B, num_outputs)
        Outputs.
    Tensor, shape (N, D)
        Representation of each row, in the order of the input.
    """
    h = model.particles(*arguments, **options)
    return model.head(model.pool(h)), h.particles
