"""Hidden particles, predicted from the visible ones: an objective that needs no labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.batch.masking import NUM_COORDINATES, NUM_QUERIES, HiddenParticles, hide_particles
from pcloud.batch.stream import JetStream
from pcloud.errors import InputError
from pcloud.feature import FLAGS
from pcloud.modality import Dataset
from pcloud.nn.dense import dense_layers
from pcloud.objectives.of_particles import Held, OfParticles
from pcloud.objectives.particle_predictions import ParticlePrediction
from pcloud.objectives.rows import ParticleRows, sum_per_jet
from pcloud.objectives.specification import MASKED

__all__ = ["MaskedParticles"]

NUM_OUTPUTS = 64
"""Outputs of the network, from which the hidden particles are predicted."""

_NUM_COMPONENTS = 8  # of the mixture
_LOG_SIGMA_RANGE = (-4.0, 3.0)  # in standard deviations of the hidden particles
_MAX_JETS_FOR_CONSTANTS = 20_000
_TINY = 1e-6


class MaskedParticles(OfParticles):
    r"""Momenta and types of hidden particles, from the outputs of a network for the visible ones.

    A fraction of the particles of each jet is removed before the network. From its outputs, the
    rank in pT of a hidden particle and the number of particles of the jet, an MLP predicts the
    density of :math:`\ln (p_T / p_T^{jet}), \Delta\eta, \Delta\varphi`, a mixture of Gaussians, and
    the probabilities of its types. The loss of a hidden particle is the negative log-likelihood of
    its standardised momentum, plus the cross-entropy of its type.

    The types are those of the flags among the features (``is_photon``, ...), with one for particles
    without a flag. If there is no flag, only momenta are learned.

    Parameters
    ----------
    fraction : float
        Hidden fraction of the particles of each jet.
    widths : sequence of int
        Widths of the hidden layers of the MLP.

    References
    ----------
    Golling et al., *Masked particle modeling on sets: towards self-supervised high energy physics
    foundation models*, https://arxiv.org/abs/2401.13537, hides particles in this way, and predicts
    tokens in the place of densities.
    """

    kind = MASKED
    num_outputs = NUM_OUTPUTS
    needs_labels = False

    def __init__(self, fraction: float = 1 / 3, widths: Sequence[int] = (128, 128)) -> None:
        super().__init__(MASKED)
        self.fraction = fraction
        self.widths = list(widths)
        self.flags: dict[int, tuple[float, float]] = {}
        self.register_buffer("mean", torch.zeros(NUM_COORDINATES), persistent=False)
        self.register_buffer("scale", torch.ones(NUM_COORDINATES), persistent=False)
        self.register_buffer("log_fractions", torch.zeros(1), persistent=False)

    @property
    def num_types(self) -> int:
        """Number of types; 0 if there is no flag."""
        return len(self.flags) + 1 if self.flags else 0

    def make_layers(self, width: int) -> nn.Module:
        """Hidden layers and the last map to the mixture and the types."""
        hidden = [width + NUM_QUERIES, *self.widths]
        number = _NUM_COMPONENTS * (1 + 2 * NUM_COORDINATES) + self.num_types
        return nn.Sequential(dense_layers(hidden), nn.Linear(hidden[-1], number))

    def hide(
        self, batch: Any, generator: torch.Generator | None = None
    ) -> tuple[Any, HiddenParticles]:
        """Visible part of a batch on the CPU, and its hidden particles."""
        return hide_particles(batch, self.fraction, generator)

    def rows(self, outputs: Tensor, hidden: Mapping[str, Tensor]) -> ParticleRows:
        """Rows of hidden particles.

        Parameters
        ----------
        outputs : Tensor, shape (B, NUM_OUTPUTS)
            Outputs of the network for the visible particles.
        hidden : mapping of str to Tensor
            Fields of :class:`~pcloud.batch.masking.HiddenParticles`.

        Returns
        -------
        ParticleRows
            Its features are outputs and queries; its labels standardised momenta and types, float.
        """
        jet = hidden["jet"]
        features = torch.cat([outputs[jet], hidden["queries"].to(outputs)], dim=-1)
        momenta = (hidden["momenta"] - self._buffer("mean", jet)) / self._buffer("scale", jet)
        types = self._types(hidden["x"]).to(momenta)
        labels = torch.cat([momenta, types.unsqueeze(-1)], dim=-1)
        return ParticleRows(features, jet, len(outputs), labels)

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        return self.get_buffer(name).to(like.device)

    def _types(self, x: Tensor) -> Tensor:
        """Type (H,) of each particle from its features: that of its flag, or the last one."""
        columns = [x[:, i] * scale + shift for i, (shift, scale) in self.flags.items()]
        values = torch.stack([*columns, torch.full_like(x[:, 0], 0.5)], dim=-1)
        return values.argmax(dim=-1)

    def forward(self, rows: ParticleRows) -> ParticlePrediction:
        """Refuse: hidden particles exist only in a training."""
        raise InputError(
            "this run was pretrained and has no predictions: train from it with --init-from"
        )

    def is_known(self, labels: Tensor) -> Tensor:
        """Mask (H,): all of them."""
        return torch.ones(len(labels), dtype=torch.bool, device=labels.device)

    def losses(self, rows: ParticleRows) -> tuple[Tensor, Tensor]:
        """Loss (H,) of each hidden particle, and its jet (H,)."""
        momenta, logits = self._predicted(rows)
        assert rows.labels is not None
        losses = -_log_likelihood(momenta, rows.labels[:, :NUM_COORDINATES])
        if self.num_types:
            losses = losses + F.cross_entropy(logits, self._true_types(rows), reduction="none")
        return losses, rows.jet

    def _predicted(self, rows: ParticleRows) -> tuple[Tensor, Tensor]:
        """Parameters of the mixture (H, K), and logits (H, T) of the types."""
        assert self.layers is not None
        outputs = self.layers(rows.features).float()
        first, last = outputs.split([outputs.shape[-1] - self.num_types, self.num_types], dim=-1)
        return first, last

    def _true_types(self, rows: ParticleRows) -> Tensor:
        assert rows.labels is not None
        return rows.labels[:, NUM_COORDINATES].long()

    def constant_losses(self, rows: ParticleRows) -> Tensor:
        """Loss (H,) of one Gaussian, and of the fractions of the types."""
        assert rows.labels is not None
        momenta = rows.labels[:, :NUM_COORDINATES]
        losses = (0.5 * (momenta.square() + math.log(2 * math.pi))).sum(-1)
        if self.num_types:
            losses = losses - self._buffer("log_fractions", rows.jet)[self._true_types(rows)]
        return losses

    def held_for_metrics(self, rows: ParticleRows) -> dict[str, Tensor]:
        """Number of hidden particles of each jet whose type is predicted."""
        if not self.num_types:
            return {}
        correct = self._predicted(rows)[1].argmax(dim=-1) == self._true_types(rows)
        return {"correct": sum_per_jet(correct.double(), rows.jet, rows.num_jets).cpu()}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Gain over constant outputs, and the accuracy of the types, if there are any."""
        accuracy = [f"val_acc_{self.name}"] if self.num_types else []
        return f"val_gain_{self.name}", *accuracy

    def metrics(self, held: Held, weights: Tensor | None = None) -> dict[str, float]:
        """Gain, in nats per hidden particle, and the accuracy of the types, if there are any."""
        found = {f"val_gain_{self.name}": self.gain(held, weights)[0]}
        if not self.num_types:
            return found
        w = torch.ones_like(held["items"]) if weights is None else weights.double()
        accuracy = (w * held["correct"]).sum() / (w * held["items"]).sum()
        return found | {f"val_acc_{self.name}": float(accuracy)}

    def fit(self, data: Dataset) -> None:
        """Take the standardisation of momenta, the flags, and the mean weight of the jets.

        Raises
        ------
        InputError
            If no jet has enough particles.
        """
        self.check(data, "training jets")
        names = [feature.name for feature in data.feature_set.features]  # type: ignore[attr-defined]
        for flag in FLAGS:
            if flag in names:
                feature = data.feature_set.features[names.index(flag)]  # type: ignore[attr-defined]
                self.flags[names.index(flag)] = (feature.shift or 0.0, 1.0 / (feature.scale or 1.0))
        hidden = self._some(data)
        spread, mean = torch.std_mean(hidden.momenta.double(), dim=0)
        self.mean = mean.float()
        self.scale = spread.clamp(min=_TINY).float()
        if self.num_types:
            counts = torch.bincount(self._types(hidden.x), minlength=self.num_types).double()
            self.log_fractions = (counts / counts.sum()).clamp(min=_TINY).log().float()
        weights = getattr(data, "weight", None)
        self.mean_weight = 1.0 if weights is None else float(weights.double().mean())
        if not self.mean_weight > 0:
            raise InputError(
                f"the weights of the training jets have the mean {self.mean_weight:.6g}: it must be "
                "positive"
            )

    def _some(self, data: Any) -> HiddenParticles:
        """Hidden particles of some jets, the first row group of a stream."""
        jets = data.load(0) if isinstance(data, JetStream) else data
        if len(jets) > _MAX_JETS_FOR_CONSTANTS:
            jets = jets.index_select(slice(0, len(jets), len(jets) // _MAX_JETS_FOR_CONSTANTS + 1))
        from pcloud.batch.collate import collate

        batch = collate(jets, torch.arange(len(jets)))
        hidden = self.hide(batch, torch.Generator().manual_seed(0))[1]
        if len(hidden.jet) < 2:
            raise InputError(_TOO_FEW.format("training jets", 1 / self.fraction))
        return hidden

    def num_items(self, rows: ParticleRows) -> Tensor:
        """Number (B,) of hidden particles."""
        return rows.counts

    def fit_constant(self, rows: ParticleRows, weights: Tensor) -> None:
        """Do nothing: see :meth:`fit`."""

    def check(self, data: Dataset, whose: str) -> None:
        """Check that particles of some jets can be hidden."""
        if isinstance(data, JetStream):
            return
        if getattr(getattr(data, "feature_set", None), "kind", None) != "cloud":
            raise InputError(f"particles are hidden in jets, and these {whose} have none")
        counts = data.ptr.diff()  # type: ignore[attr-defined]
        if not bool((counts * self.fraction + 1e-9 >= 1).any()):
            raise InputError(_TOO_FEW.format(whose, 1 / self.fraction))

    def describe(self, data: Dataset) -> str:
        """Describe what is hidden."""
        return f"{self.fraction:.0%} of the particles hidden"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the weights of the layers."""
        return {
            **super().to_dict(),
            "fraction": self.fraction,
            "widths": self.widths,
            "flags": [[i, shift, scale] for i, (shift, scale) in self.flags.items()],
            "mean": self.get_buffer("mean").tolist(),
            "scale": self.get_buffer("scale").tolist(),
        }

    def load_constants(self, values: Mapping[str, Any]) -> None:
        """Set flags and standardisation from :meth:`to_dict`."""
        self.flags = {int(i): (shift, scale) for i, shift, scale in values.get("flags", [])}
        self.mean = torch.tensor(values.get("mean", [0.0] * NUM_COORDINATES))
        self.scale = torch.tensor(values.get("scale", [1.0] * NUM_COORDINATES))
        self.log_fractions = torch.zeros(max(self.num_types, 1))


_TOO_FEW = "none of the {} has {:.0f} or more particles, of which one could be hidden"


def _log_likelihood(parameters: Tensor, values: Tensor) -> Tensor:
    """Logarithm (H,) of the density of a mixture of Gaussians at ``values (H, D)``.

    ``parameters (H, M (1 + 2 D))`` are the logits of the components, then means and logarithms of
    the widths, (M, D) each.
    """
    size = values.shape[-1]
    number = parameters.shape[-1] // (1 + 2 * size)
    logits, rest = parameters.split([number, 2 * number * size], dim=-1)
    means, log_sigma = rest.unflatten(-1, (2, number, size)).unbind(-3)
    log_sigma = log_sigma.clamp(*_LOG_SIGMA_RANGE)
    pulls = (values.unsqueeze(-2) - means) * (-log_sigma).exp()
    log_normal = -(0.5 * (pulls.square() + math.log(2 * math.pi)) + log_sigma).sum(-1)
    return (logits.log_softmax(dim=-1) + log_normal).logsumexp(dim=-1)
