"""What the tests of all models share: jets of awkward sizes and scores of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import pcloud
from pcloud import kinematics as kin
from pcloud.features import feature_set

COUNTS = [1, 2, 40, 17, 5, 16, 8, 90]

FEWER_BLOCKS = {
    "gn2": {"width": 32, "num_layers": 2, "particle_width": 16, "head_widths": [16]},
    "lgatr": {"num_layers": 2},
    "lgatr_slim": {"num_layers": 2},
    "lloca": {"network_options": {"num_layers": 2, "num_class_layers": 1}},
    "lorentznet": {"num_layers": 2},
    "part": {"num_layers": 2, "num_class_layers": 1},
    "pelican": {"num_layers": 2},
    "transformer": {"num_layers": 2, "num_class_layers": 1},
}
"""Models of many equal blocks that take long; their own tests run them in full."""


def make_jets(counts=COUNTS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """``x, p4, batch`` of jets around random axes; particles 0 and 1 of the third coincide."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    axis = torch.randn(len(counts), 2, generator=generator)[batch]
    spread = 0.3 * torch.randn(len(batch), 2, generator=generator)
    pt = 20 * torch.rand(len(batch), generator=generator) + 0.5
    mass = torch.full_like(pt, 0.14)
    p4 = kin.from_pt_eta_phi_mass(pt, *(axis + spread).unbind(-1), mass)
    if len(counts) > 2 and counts[2] > 1:
        first = counts[0] + counts[1]
        p4[first + 1] = p4[first]
    return feature_set("kin")(p4, batch), p4, batch


ONE_BLOCK = {
    "deepjet": {"widths": [[8, 4]], "lstm_widths": [8], "head_widths": [8]},
    "gn2": {"width": 16, "num_layers": 1, "particle_width": 8, "head_widths": [8]},
    "lgatr": {"num_layers": 1},
    "lgatr_slim": {"num_layers": 1},
    "jet_images": {"widths": [4], "head_widths": [8]},
    "lloca": {"network": "pfn", "messages": "scalar", "network_options": {}},
    "part": {"num_layers": 1, "num_class_layers": 1},
    "particlenet_collections": {"widths": ((8, 8), (8,)), "fusion_width": 8},
    "particlenet_lite": {"widths": ((8, 8), (8,))},
    "pcnn": {"width": 8, "stage_widths": ((8,), (8, 12))},
    "pelican": {"num_layers": 1},
    **{name: {"width": 8} for name in ("rnn", "gru", "lstm")},
    "transformer": {"num_layers": 1, "num_class_layers": 1},
}
"""The same for compilers and fake tensors, which take long for every operation."""


_FEW: dict[str, Any] = {"num_layers": 1, "num_class_layers": 1, "head_widths": (16,)}
_EDGES: dict[str, Any] = {"widths": ((16, 16), (24,)), "k": 8, "head_widths": (16,)}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lloca of particlenet": ("lloca", {"network": "particlenet", "network_options": _EDGES}),
    "part of version 2": ("part", {"version": 2, "gate": "heads"} | _FEW),
    "part of version 3": ("part", {"version": 3, "gate": "channels", "qk_norm": True} | _FEW),
}
"""Registered models with options that change their layers, by a name for the tests."""


def variant(name: str) -> tuple[str, dict[str, Any]]:
    """Registered name and options of a model or a variant."""
    return VARIANTS.get(name, (name, {}))


def build(name: str, *, num_outputs: int = 3, seed: int = 0, **options: Any) -> nn.Module:
    """With random weights."""
    torch.manual_seed(seed)
    name, own = variant(name)
    options = FEWER_BLOCKS.get(name, {}) | own | options
    return pcloud.build_model(name, in_features=7, num_outputs=num_outputs, **options)


def make_model(name: str, *, num_outputs: int = 3, seed: int = 0, **options: Any) -> nn.Module:
    """In evaluation mode, with statistics and norms of a network that has seen jets."""
    model = build(name, num_outputs=num_outputs, seed=seed, **options)
    norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    if norms:
        with torch.no_grad():
            for i in range(10):
                model.train()(*make_jets([30] * 8, seed=100 + i))
    return model.eval()
