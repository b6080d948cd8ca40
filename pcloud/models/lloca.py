"""LLoCa: any network in learned local frames, and therefore Lorentz-invariant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.lloca_tensors import TensorParticleNet, TensorTransformer
from pcloud.models.registry import build_model, model_info, register_model
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.frames import FrameNetwork, LocalFrames
from pcloud.nn.lorentz.minkowski import MassTreatment, mass_treatment
from pcloud.nn.lorentz.tokens import BEAM_REFERENCES

__all__ = ["LLoCa"]

_TENSOR_NETWORKS = {"particlenet": TensorParticleNet, "transformer": TensorTransformer}
_NUM_FEATURES = 12
_TIME_REFERENCE = ((2.0, 0.0, 0.0, 0.0),)
"""Direction of time. As the mean of the two beams, it would leave one particle without unique axes."""


@register_model(
    "lloca",
    paper="2505.20280",
    year=2025,
    use="Lorentz symmetry for any network",
    inputs="p4",
    symmetries=("permutation", "Lorentz"),
)
class LLoCa(nn.Module):
    """LLoCa: a network whose inputs are the momenta in learned local frames.

    The network gets, for each particle, its momentum in its own frame and in that of the jet, and as
    four-momenta those in the frame of the jet. Both are invariant if the jet and the references are
    transformed together. With tensorial messages, a part of the channels are four-vectors, which
    are transformed from frame to frame in attention and on edges.

    Parameters
    ----------
    in_features : int
        Features per particle F, used only if `scalars` is ``"features"``.
    num_outputs : int
        Number of outputs, one for each class (C).
    network : str
        Name of the network.
    messages : {"tensor", "scalar"}
        ``"tensor"`` is for ``"transformer"`` and ``"particlenet"``, ``"scalar"`` for every network.
    network_options : mapping
        Options of the network.
    mass : {"regulated", "stored", "zero"} or callable
        Masses of the particles, see :mod:`pcloud.nn.lorentz.minkowski`.
    scalars : {"none", "features"}
        With ``"features"``, the network has the features `x`, too, which are not transformed.
    beams : str
        Name of the beam references, a key of `BEAM_REFERENCES`.
    time : bool
        If True, the direction of time is a reference, too.
    frame_width : int
        Width of the hidden layers of the network that predicts the frames.
    scale : float
        Momentum in GeV that is represented by 1.

    Raises
    ------
    UnknownNameError
        If there is no such network, mass treatment, reference, or kind of messages.
    InputError
        If the network has no tensorial messages, or is LLoCa itself.

    References
    ----------
    Spinner et al., Lorentz Local Canonicalization: How to Make any Network Lorentz-Equivariant,
    https://arxiv.org/abs/2505.20280.
    """

    beams: Tensor
    time: Tensor

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        network: str = "transformer",
        messages: str = "tensor",
        network_options: Mapping[str, Any] | None = None,
        mass: MassTreatment | str = "regulated",
        scalars: str = "none",
        beams: str = "lightlike",
        time: bool = True,
        frame_width: int = 32,
        scale: float = 20.0,
    ) -> None:
        super().__init__()
        _check(network, messages, scalars, beams)
        self.mass = mass_treatment(mass)
        self.scale = scale
        self.scalars = scalars
        for name, values in (
            ("beams", BEAM_REFERENCES[beams]),
            ("time", _TIME_REFERENCE if time else ()),
        ):
            vectors = torch.tensor(values, dtype=torch.float64).view(-1, 4)
            self.register_buffer(name, vectors, persistent=False)
        self.frames = FrameNetwork(len(self.beams) + len(self.time), frame_width)
        self.messages = messages
        features = _NUM_FEATURES + (in_features if scalars == "features" else 0)
        options = dict(network_options or {})
        self.network = (
            _TENSOR_NETWORKS[network](features, num_outputs, **options)
            if messages == "tensor"
            else build_model(network, features, num_outputs, **options)
        )

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        layout = as_layout(batch, layout, p4)
        momenta, _ = self.mass(p4, layout)
        momenta = momenta / self.scale
        references = torch.cat([self.beams, self.time]).to(momenta)
        frames = self.frames(momenta, references, layout)
        dtype = next(self.network.parameters()).dtype
        inputs = _invariants(momenta, frames, layout)
        if self.scalars == "features":
            inputs = torch.cat([x.to(inputs), inputs], dim=-1)
        of_jets = _moved(momenta, frames.jets[layout.batch]) * self.scale
        # Stored momenta of jets and positions are those of the detector.
        own = replace(layout, jet_p4=None, pos=None)
        more = (frames.relative,) if self.messages == "tensor" else ()
        return self.network(inputs.to(dtype), of_jets.to(dtype), own.batch, own, *more)


def _check(network: str, messages: str, scalars: str, beams: str) -> None:
    choices = {
        "kind of messages": (messages, ("tensor", "scalar")),
        "scalars": (scalars, ("none", "features")),
        "beam references": (beams, BEAM_REFERENCES),
    }
    for kind, (name, known) in choices.items():
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if network == "lloca" or model_info(network).kind != "cloud":
        raise InputError(f"lloca needs a network of clouds, not {network!r}")
    if messages == "tensor" and network not in _TENSOR_NETWORKS:
        raise InputError(
            f"{network} has no tensorial messages, which {' and '.join(_TENSOR_NETWORKS)} have: use "
            "messages='scalar'"
        )


def _moved(vectors: Tensor, matrices: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)


def _invariants(p4: Tensor, frames: LocalFrames, layout: RaggedLayout) -> Tensor:
    """Momenta (N, 12) in the frames: compressed in that of jet and particle, then as they are."""
    local = _moved(p4, frames.particles)
    of_jet = _moved(p4, frames.jets[layout.batch])
    return torch.cat([of_jet.asinh(), local.asinh(), local], dim=-1)
