"""Normalising flow of the variables of jets and of their number of particles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import MissingExtraError

__all__ = ["JetFlow"]

_LOG_NUMBER = (3.5, 0.6)  # shift and scale of log(n), which the splines take between -5 and 5


class JetFlow(nn.Module):
    """Density of the variables of a jet and of its number of particles, given its class.

    A neural spline flow of zuko. The number n is made continuous by a uniform random number:
    ``log(n + U)`` is one more variable.

    Parameters
    ----------
    num_variables : int
        Number of variables of a jet G.
    num_conditions : int
        Width of the condition K.
    num_transforms, num_bins : int
        Number of spline transforms, and of bins of each spline.
    width : int
        Width of the two hidden layers.

    Raises
    ------
    MissingExtraError
        If zuko is not installed.

    References
    ----------
    Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, https://arxiv.org/abs/1906.04032.
    """

    def __init__(
        self,
        num_variables: int,
        num_conditions: int,
        num_transforms: int = 3,
        num_bins: int = 8,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.num_variables = num_variables
        self.flow = _zuko().flows.NSF(
            num_variables + 1,
            num_conditions,
            bins=num_bins,
            transforms=num_transforms,
            hidden_features=(width, width),
        )

    def losses(self, u: Tensor, counts: Tensor, condition: Tensor, uniform: Tensor) -> Tensor:
        """Negative log-likelihood (B,) of variables, numbers of particles and uniform numbers.

        Parameters
        ----------
        u : Tensor, shape (B, G)
            Variables of the jets.
        counts : Tensor, shape (B,)
            Numbers of particles.
        condition : Tensor, shape (B, K)
            Class of each jet.
        uniform : Tensor, shape (B,)
            Random numbers between 0 and 1.
        """
        with torch.autocast(u.device.type, enabled=False):
            shift, scale = _LOG_NUMBER
            number = ((counts + uniform).clamp(min=1.0).log() - shift) / scale
            values = torch.cat([u.float(), number.float().unsqueeze(-1)], dim=-1)
            return -self.flow(condition.float()).log_prob(values)

    def sample(self, condition: Tensor, noise: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Variables (B, G) of jets, and their numbers of particles (B,) from 1 to `most`.

        Parameters
        ----------
        condition : Tensor, shape (B, K)
            Class of each jet.
        noise : Tensor, shape (B, G + 1)
            Gaussian random numbers.
        most : int
            Largest number of particles.
        """
        values = self.flow(condition).transform.inv(noise)
        shift, scale = _LOG_NUMBER
        number = (values[:, -1] * scale + shift).clamp(max=30.0).exp().floor()
        return values[:, :-1], number.clamp(1, most).long()


def _zuko() -> Any:
    try:
        import zuko
    except ImportError as error:
        raise MissingExtraError("generating jets", "zuko", "generative") from error
    return zuko
