"""The gradient methods, as captum computes them: the one place that imports it."""

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
    """A gradient method, and how many copies of a batch it makes.

    The method is ``compute(response, inputs, index, baseline, scale) -> values``, all but the last
    of the shape of `inputs`: ``response(inputs, index)`` gives one number per jet or image, `index`
    says to what each row of the inputs belongs, and ``noise * scale`` is the width of the noise.

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
        # captum takes one width for all inputs: in units of their own, it is the same for all
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
