"""Density of observables of jets, by a normalising flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.anomaly.detector import Detector, anomaly_logits
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import names
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.observables import OBSERVABLES, compute_observables

__all__ = ["ObservableFlow"]

_INPUTS = ("mass", "multiplicity", "tau21", "tau32", "girth", "ptd", "c2")
_LOG_TWO_PI = math.log(2 * math.pi)


@register_model(
    "observable_flow",
    paper="1906.04032",
    year=2019,
    use="anomalies among observables",
    inputs="p4",
    kind="anomalous_cloud",
)
class ObservableFlow(Detector):
    """Density of observables of jets, by a neural spline flow of zuko.

    The observables are standardised by their mean and variance over the training jets. The score is
    the negative logarithm of their density in these units.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_outputs : int
        Number of classes C, the learned one first.
    observables : sequence of str
        Names from :data:`pcloud.observables.OBSERVABLES`.
    num_transforms, num_bins : int
        Number of spline transforms, and of bins of each spline.
    width : int
        Width of the two hidden layers of each transform.
    smoothing : float
        Noise added in training, in standard deviations. Without it the density is infinite where an
        observable is an integer, or exactly 0.
    radius : float
        Jet radius R, in which N-subjettiness measures distances.

    Raises
    ------
    MissingExtraError
        If zuko is not installed.

    References
    ----------
    Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, https://arxiv.org/abs/1906.04032.
    """

    baseline = "independent Gaussians"

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        observables: Sequence[str] = _INPUTS,
        num_transforms: int = 3,
        num_bins: int = 8,
        width: int = 64,
        smoothing: float = 0.1,
        radius: float = 0.8,
    ) -> None:
        super().__init__(num_outputs)
        self.observables = names("observables", observables)
        for name in self.observables:
            if name not in OBSERVABLES:
                raise UnknownNameError("observable", name, OBSERVABLES)
        if not self.observables or not smoothing >= 0:
            raise InputError("a density needs at least one observable, and smoothing at least 0")
        self.smoothing = smoothing
        self.radius = radius
        number = len(self.observables)
        self.norm = nn.BatchNorm1d(number, affine=False, momentum=None)
        hidden = (width, width)
        flow = _zuko().flows.NSF
        self.flow = flow(number, transforms=num_transforms, bins=num_bins, hidden_features=hidden)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        return anomaly_logits(self.scores(x, p4, batch, layout), self.num_outputs)

    def scores(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Negative log-densities (B,)."""
        with without_autocast(p4):
            return -self.flow().log_prob(self._values(p4, as_layout(batch, layout, p4)))

    def trivial_scores(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Negative log-densities (B,) of independent Gaussians with the same mean and variance."""
        values = self._values(p4, as_layout(batch, layout, p4))
        return 0.5 * (values.square() + _LOG_TWO_PI).sum(-1)

    def _values(self, p4: Tensor, layout: RaggedLayout) -> Tensor:
        """Standardised observables (B, D)."""
        dtype = next(self.flow.parameters()).dtype
        values = compute_observables(p4, layout, self.observables, radius=self.radius)
        values = self.norm(values.to(dtype))
        if self.training:
            values = values + self.smoothing * torch.randn_like(values)
        return values


def _zuko() -> Any:
    try:
        import zuko
    except ImportError as error:
        raise MissingExtraError("the density of observables", "zuko", "generative") from error
    return zuko
