"""Gradient methods of captum. No other module imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import MissingExtraError

__all__ = ["captum_method"]

Compute = Callable[..., Tensor]


def captum_method(
    method: str, *, steps: int = 32, samples: int = 16, noise: float = 0.1, seed: int = 0
) -> tuple[Compute, int]:
    """Return a gradient method, and the number of copies of a batch that it makes.

    The method is a function ``compute(response, inputs, index, baseline, scale) -> values``, where
    values and baseline have the shape of `inputs`. The function ``response(inputs, index)`` returns
    one number for each jet or image. `index` is the particle or image of each row of the inputs,
    and ``noise * scale`` is the width of the noise.

    Parameters
    ----------
    method : str
        ``"saliency"``, ``"integrated_gradients"`` or ``"smoothgrad"``.
    steps : int
        Number of steps of integrated gradients.
    samples : int
        Number of noisy copies for SmoothGrad.
    noise : float
        Width of the noise in units of `scale`.
    seed : int
        Seed of the noise.

    Raises
    ------
    MissingExtraError
        If captum is not installed.
    """
    captum = _captum()

    def saliency(
        response: Callable[..., Tensor], inputs: Tensor, index: Tensor, start: Tensor, scale: Tensor
    ) -> Tensor:
        return captum.Saliency(response).attribute(
            inputs.requires_grad_(), additional_forward_args=(index,)
        )

    def integrated(
        response: Callable[..., Tensor], inputs: Tensor, index: Tensor, start: Tensor, scale: Tensor
    ) -> Tensor:
        return captum.IntegratedGradients(response).attribute(
            inputs, baselines=start, additional_forward_args=(index,), n_steps=steps
        )

    def smooth(
        response: Callable[..., Tensor], inputs: Tensor, index: Tensor, start: Tensor, scale: Tensor
    ) -> Tensor:
        # captum takes one width for all inputs, which therefore are scaled by their own widths
        unit = torch.where(scale > 0, scale, 1.0)

        def in_units(scaled: Tensor, index: Tensor) -> Tensor:
            return response(scaled * unit, index)

        tunnel = captum.NoiseTunnel(captum.Saliency(in_units))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            values = tunnel.attribute(
                inputs.div(unit).requires_grad_(),
                nt_type="smoothgrad",
                nt_samples=samples,
                stdevs=float(noise),
                abs=False,
                additional_forward_args=(index,),
            )
        return (values / unit).abs()

    methods: dict[str, tuple[Compute, int]] = {
        "saliency": (saliency, 1),
        "integrated_gradients": (integrated, steps),
        "smoothgrad": (smooth, samples),
    }
    return methods[method]


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtraError("attribution by gradients", "captum", "trust") from error
    return captum.attr
