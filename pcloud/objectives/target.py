"""Quantity that a network learns, with its transformation and standardisation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Interval
from torch import Tensor

from pcloud.errors import InputError
from pcloud.stored_values import Name

__all__ = ["Target"]

_DIGITS = 6
_ONE_SIGMA = (0.15865525393145707, 0.8413447460685429)
_MAX_QUANTILE_JETS = 10**6  # torch.quantile takes at most 16 million numbers

Finite = Annotated[float, Interval(gt=-1e100, lt=1e100)]


@dataclass(frozen=True)
class Target:
    """Quantity of a jet that a network learns.

    It is learned on the *learned scale*: its value, or the logarithm of it. The outputs of the
    network are standardised: ``(learned - shift) / scale``.

    Parameters
    ----------
    name : str
        Name of the target of the jets.
    transform : str
        ``"log"`` to learn the logarithm, or ``"none"``.
    shift, scale : float
        Median and spread of the training jets on the learned scale.

    Examples
    --------
    >>> Target("jet_mass", transform="log").name
    'jet_mass'
    """

    name: Name
    transform: Literal["none", "log"] = "none"
    shift: Finite = 0.0
    scale: Annotated[Finite, Gt(0)] = 1.0

    def learned(self, values: Tensor) -> Tensor:
        """Values on the learned scale."""
        return values.log() if self.transform == "log" else values

    def standardised(self, values: Tensor) -> Tensor:
        """Standardised values, as the network gives them."""
        return (self.learned(values) - self.shift) / self.scale

    def value(self, learned: Tensor) -> Tensor:
        """Values from those on the learned scale."""
        return learned.exp() if self.transform == "log" else learned

    def fitted(self, values: Tensor) -> Target:
        """Target standardised by the training jets, with NaN where they have none.

        Shift and scale are the median and half the width of the central 68 %, or the standard
        deviation where most values are equal.

        Raises
        ------
        InputError
            If no jet has the target, it is constant, or a logarithm of it does not exist.
        """
        self.check(values, "training jets")
        learned = self.learned(values[~values.isnan()].double())
        few = learned[:: -(-len(learned) // _MAX_QUANTILE_JETS)]
        low, median, high = few.quantile(
            torch.tensor([_ONE_SIGMA[0], 0.5, _ONE_SIGMA[1]], dtype=torch.float64)
        ).tolist()
        width = (high - low) / 2 or float(learned.std())
        return replace(self, shift=_rounded(median), scale=_rounded(width))

    def check(self, values: Tensor, whose: str) -> None:
        """Check values (B,) of jets, NaN where a jet has none.

        Raises
        ------
        InputError
            If they cannot be learned; the message names the target.
        """
        known = values[~values.isnan()]
        if len(known) == 0:
            raise InputError(f"target {self.name!r} is missing for all of the {whose}")
        if not bool(known.isfinite().all()):
            first = int(values.isinf().nonzero()[0])
            number = int(values.isinf().sum())
            raise InputError(
                f"target {self.name!r} is infinite for {number} of {len(values)} {whose}, the first "
                f"is jet {first}: NaN stands for a missing target"
            )
        if self.transform == "log" and bool((known <= 0).any()):
            number = int((known <= 0).sum())
            first = int((values <= 0).nonzero()[0])
            raise InputError(
                f"target {self.name!r} is not positive for {number} of {len(values)} {whose}, the "
                f"first is jet {first}: it has no logarithm"
            )
        if bool((known == known[0]).all()):
            raise InputError(
                f"target {self.name!r} is constant in the {whose}, {float(known[0]):g}: there is "
                "nothing to learn"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else number
