"""Permutation-invariant autoencoder of the particles of a jet."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pcloud import kinematics
from pcloud.anomaly.detector import Detector, anomaly_logits
from pcloud.anomaly.distances import chamfer_distance, energy_mover_distance
from pcloud.errors import InputError, UnknownNameError
from pcloud.images.jet_images import centre, flip, turn
from pcloud.models.registry import register_model
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.nn.pooling import sum_pool

__all__ = ["CloudAutoencoder"]

_DISTANCES = ("chamfer", "energy_mover")
_FARTHEST = 3.0  # of a particle from the axis, in jet radii
_MIN_FRACTION = 1e-6


@register_model(
    "cloud_autoencoder",
    paper="1902.02346",
    year=2019,
    use="anomalies among clouds",
    inputs="p4",
    kind="anomalous_cloud",
)
class CloudAutoencoder(Detector):
    """Autoencoder of a cloud: sums over particles, a small code, and a cloud of fixed size.

    Each particle is its position, relative to the jet and turned so that the jet is upright, in units
    of the radius, and its fraction z of the transverse momentum. The encoder sums functions of the
    particles, with weights z and 1, so that the code ignores their order. The decoder gives positions
    and fractions of `num_particles` particles. The score is the distance between both clouds.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_outputs : int
        Number of classes C, the learned one first.
    code_size : int
        Number of values of the code.
    num_particles : int
        Number of particles of the reconstruction.
    distance : {"chamfer", "energy_mover"}
        Distance between the clouds. That of Chamfer compares positions and fractions of the nearest
        particles, weighted by the fractions; the energy mover's is the least work that makes one
        distribution of pT of the other.
    width : int
        Width of the hidden layers.
    radius : float
        Jet radius R.
    input_noise : float
        Smearing of the positions in training, in jet radii, which the network learns to remove.

    References
    ----------
    Komiske, Metodiev and Thaler, Metric Space of Collider Events, https://arxiv.org/abs/1902.02346;
    Fan, Su and Guibas, https://arxiv.org/abs/1612.00603, for the distance of Chamfer.
    """

    least_gain = 0.05

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        code_size: int = 8,
        num_particles: int = 24,
        distance: Literal["chamfer", "energy_mover"] = "energy_mover",
        width: int = 64,
        radius: float = 0.8,
        input_noise: float = 0.0,
    ) -> None:
        super().__init__(num_outputs)
        if distance not in _DISTANCES:
            raise UnknownNameError("distance", distance, _DISTANCES)
        if min(code_size, num_particles, width) < 1 or not (input_noise >= 0 and radius > 0):
            raise InputError(
                "code_size, num_particles, width and radius must be positive, and input_noise at least 0"
            )
        self.distance = distance
        self.radius = radius
        self.input_noise = input_noise
        self.phi = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.encode = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, code_size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code_size, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 3 * num_particles),
        )
        with torch.no_grad():  # particles that begin apart find different parts of the jet
            self.decoder[-1].bias.uniform_(-0.5, 0.5)  # type: ignore[operator]

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
        """Distances (B,) between jets and their reconstructions."""
        return self._distances(p4, as_layout(batch, layout, p4), 0)

    def trivial_scores(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Distances (B,) between jets and the reconstructions from the codes of other jets."""
        return self._distances(p4, as_layout(batch, layout, p4), 1)

    def code(self, pos: Tensor, z: Tensor, layout: RaggedLayout) -> Tensor:
        """Codes (B, code_size) of positions (N, 2) and fractions of pT (N,)."""
        log_z = z.clamp(min=_MIN_FRACTION).log()
        inputs = torch.cat([pos, torch.stack([10 * z, 0.3 * log_z + 1], dim=-1)], dim=-1)
        h = self.phi(inputs)
        sums = [sum_pool(z.unsqueeze(-1) * h, layout), sum_pool(h, layout) / 50]
        return self.encode(torch.cat(sums, dim=-1))

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, M, 2), in jet radii, and fractions of pT (B, M) of codes."""
        values = self.decoder(code).unflatten(-1, (-1, 3)).float()
        return values[..., :2], values[..., 2].softmax(-1)

    def cloud(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor]:
        """Positions (N, 2), in jet radii, and fractions of pT (N,) of the particles of jets."""
        pt = kinematics.pt(p4)
        pos = eta_phi(p4, layout)
        for step in (centre, turn, flip):
            pos = step(pos, pt, layout)
        total = sum_pool(pt, layout).clamp(min=kinematics.MIN_GEV)
        pos = (pos / self.radius).clamp(-_FARTHEST, _FARTHEST)
        return pos, pt / total[layout.batch]

    def _distances(self, p4: Tensor, layout: RaggedLayout, shift: int) -> Tensor:
        dtype = next(self.encode.parameters()).dtype
        with without_autocast(p4):
            pos, z = (part.to(dtype) for part in self.cloud(p4, layout))
        code = self.code(self._noisy(pos), z, layout).roll(shift, 0)
        made, fractions = self.decode(code)
        with without_autocast(p4):
            found = [
                self._of_block(block.gather(pos), block.gather(z) * block.mask, made, fractions, at)
                for block in layout.blocks
                for at in [block.jets]
            ]
            none = fractions.new_zeros(layout.num_jets)
            if not found:
                return none
            jets = torch.cat([block.jets for block in layout.blocks])
            return none.index_add(0, jets, torch.cat(found))

    def _of_block(
        self, pos: Tensor, z: Tensor, made: Tensor, fractions: Tensor, jets: Tensor
    ) -> Tensor:
        """Distances (b,) of jets of similar length: positions (b, P, 2) and fractions (b, P)."""
        made, fractions = made[jets], fractions[jets]
        if self.distance == "energy_mover":
            return energy_mover_distance(pos, made, z, fractions)
        own = torch.cat([pos, z.unsqueeze(-1)], dim=-1)
        return chamfer_distance(own, torch.cat([made, fractions.unsqueeze(-1)], -1), z, fractions)

    def _noisy(self, pos: Tensor) -> Tensor:
        if not (self.training and self.input_noise):
            return pos
        return pos + self.input_noise * torch.randn_like(pos)
