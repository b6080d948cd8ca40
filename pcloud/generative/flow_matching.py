"""Conditional flow matching on clouds: training losses and samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.generative.integrate import integrate
from pcloud.generative.jet_flow import JetFlow
from pcloud.generative.velocity import VelocityNetwork
from pcloud.models.registry import register_model
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import mean_pool

__all__ = ["FlowMatching", "match_by_first_coordinate"]

_SEED = 20_220_210  # of times and noise in the evaluation of a loss
_LOG_NUMBER = (3.5, 0.6)  # shift and scale of log(n)


def match_by_first_coordinate(noise: Tensor, x: Tensor, layout: RaggedLayout) -> Tensor:
    """Noise (N, F), permuted in each jet so that its first coordinate has the order of that of `x`.

    The particles of a jet have no order, so that noise may be given to them in any order that a rule
    decides: the network sees the same sets. The particle of the largest pT gets the noise of the
    largest first coordinate. Paths in this coordinate then do not cross, and the velocity is
    nearly constant along them.
    """
    of_noise = _order(noise[:, 0], layout)
    of_x = _order(x[:, 0], layout)
    return torch.empty_like(noise).index_copy_(0, of_x, noise.index_select(0, of_noise))


def _order(values: Tensor, layout: RaggedLayout) -> Tensor:
    """Indices (N,) that sort values in each jet, the largest first."""
    order = values.argsort(descending=True, stable=True)
    return order[layout.batch[order].argsort(stable=True)]


@register_model(
    "flow_matching",
    paper="2210.02747",
    year=2022,
    use="generates jets",
    kind="generator",
)
class FlowMatching(nn.Module):
    """Conditional flow matching on clouds.

    A network learns the velocity with which Gaussian noise moves on straight lines to the particles
    of a jet, and new jets are noise that is moved by it. The condition is the class of the jet, its
    pT, mass and number of particles, which a small normalising flow generates first.

    Parameters
    ----------
    in_features : int
        Number of coordinates of a particle F.
    num_outputs : int
        Number of losses of a jet, 3.
    num_jet_features : int
        Number of variables of a jet G.
    num_labels : int
        Number of classes; 0 without classes.
    max_particles : int
        Largest number of particles of a generated jet.
    width : int
        Width of particles and cloud in the velocity network.
    num_layers, num_heads : int
        Number of its layers, and of heads of each.
    matched : bool
        Give the noise to the particles in the order of their first coordinate, see
        :func:`match_by_first_coordinate`.

    References
    ----------
    Lipman et al., Flow Matching for Generative Modeling, https://arxiv.org/abs/2210.02747; Buhmann
    et al., EPiC-ly Fast Particle Cloud Generation with Flow-Matching and Diffusion,
    https://arxiv.org/abs/2310.00049.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 3,
        *,
        num_jet_features: int = 3,
        num_labels: int = 0,
        max_particles: int = 200,
        width: int = 96,
        num_layers: int = 4,
        num_heads: int = 4,
        matched: bool = True,
    ) -> None:
        super().__init__()
        if num_outputs != 3:
            raise InputError(f"flow_matching has 3 outputs, its losses, not {num_outputs}")
        if width % num_heads:
            raise InputError(f"width {width} must be a multiple of num_heads {num_heads}")
        self.in_features = in_features
        self.num_jet_features = num_jet_features
        self.num_labels = num_labels
        self.max_particles = max_particles
        self.matched = matched
        kinds = max(num_labels, 1)
        self.jet_flow = JetFlow(num_jet_features, kinds)
        self.velocity = VelocityNetwork(
            in_features, num_jet_features + 1 + kinds, width, num_layers, num_heads
        )

    def forward(self, x: Tensor, u: Tensor, label: Tensor, layout: RaggedLayout) -> Tensor:
        """Losses (B, 3): of the velocity, of the variables of the jet, and of the velocity zero.

        Those of the velocity are means of squares over particles and coordinates. Times and noise
        are random in training; in evaluation they are the same in every call.

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Standardised coordinates of the particles.
        u : Tensor, shape (B, G)
            Standardised variables of the jets.
        label : Tensor, shape (B,)
            Classes.
        layout : RaggedLayout
            Jets of the batch.
        """
        x, u = x.float(), u.float()
        generator = None if self.training else torch.Generator().manual_seed(_SEED)
        noise = torch.randn(x.shape, generator=generator).to(x)
        start, uniform = torch.rand(2, len(u), generator=generator).to(u)
        # evenly spread times have less variance than independent ones
        spread = torch.arange(len(u), device=u.device) / max(len(u), 1)
        time = (start[:1] + spread).remainder(1.0) if len(u) else start
        time = time[torch.randperm(len(u), generator=generator).to(u.device)]
        if self.matched:
            noise = match_by_first_coordinate(noise, x, layout)
        t = time[layout.batch].unsqueeze(-1)
        target = x - noise
        found = self.velocity(noise + t * target, time, self._condition(u, label, layout), layout)
        losses = [
            mean_pool((found - target).square().mean(-1, keepdim=True), layout)[:, 0],
            self.jet_flow.losses(u, layout.counts, self._kinds(label), uniform),
            mean_pool(target.square().mean(-1, keepdim=True), layout)[:, 0],
        ]
        return torch.stack(losses, dim=-1)

    @torch.no_grad()
    def sample_jets(self, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Variables (B, G) and numbers of particles (B,) of jets of the classes ``label (B,)``."""
        shape = (len(label), self.num_jet_features + 1)
        noise = torch.randn(shape, generator=generator).to(label.device)
        return self.jet_flow.sample(self._kinds(label), noise, self.max_particles)

    @torch.no_grad()
    def sample_particles(
        self,
        u: Tensor,
        label: Tensor,
        layout: RaggedLayout,
        generator: torch.Generator,
        *,
        steps: int = 50,
        method: str = "midpoint",
    ) -> Tensor:
        """Coordinates (N, F) of the particles of jets with variables ``u (B, G)``.

        Parameters
        ----------
        u : Tensor, shape (B, G)
            Standardised variables of the jets.
        label : Tensor, shape (B,)
            Classes.
        layout : RaggedLayout
            Numbers of particles.
        generator : torch.Generator
            Source of the noise, on the CPU.
        steps, method
            See :func:`~pcloud.generative.integrate.integrate`.
        """
        noise = torch.randn(layout.num_particles, self.in_features, generator=generator).to(u)
        condition = self._condition(u, label, layout)

        def velocity(x: Tensor, time: float) -> Tensor:
            return self.velocity(x, u.new_full((len(u),), time), condition, layout)

        return integrate(velocity, noise, steps, method)

    def _kinds(self, label: Tensor) -> Tensor:
        """Classes (B, max(C, 1)) as 0 and 1."""
        kinds = max(self.num_labels, 1)
        return F.one_hot(label if self.num_labels else torch.zeros_like(label), kinds).float()

    def _condition(self, u: Tensor, label: Tensor, layout: RaggedLayout) -> Tensor:
        """Condition (B, K) of the velocities."""
        shift, scale = _LOG_NUMBER
        number = (layout.counts.clamp(min=1).to(u).log() - shift) / scale
        return torch.cat([u, number.unsqueeze(-1), self._kinds(label)], dim=-1)
