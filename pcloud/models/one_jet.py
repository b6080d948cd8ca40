"""Networks for one jet at a time, as in a trigger, for export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcloud.nn.layout import RaggedLayout
from pcloud.order import canonical_order_of_one_jet

__all__ = ["OneJet"]


class OneJet(nn.Module):
    """Network for the particles of one jet, which can be exported for any number of them.

    The layout of the jet and the canonical order of its particles, which decides ties among
    neighbours, are computed by tensor operations only, so that :func:`torch.export.export` records
    a graph with a free number of particles. Scores are equal to those of the network in a batch::

        particles = torch.export.Dim("particles", min=2, max=500)
        program = torch.export.export(
            OneJet(model.eval(), empty_slots=8), (x, p4), dynamic_shapes=({0: particles},) * 2
        )
        torch._inductor.aoti_compile_and_package(program, package_path="tagger.pt2")

    ParticleNet, DGCNN, PFN, EFN and LorentzNet can be exported in this way. :mod:`pcloud.export` writes
    files from four-momenta to probabilities, also of networks with attention.

    Parameters
    ----------
    model : nn.Module
        Network of this library, in evaluation mode.
    empty_slots : int
        Empty slots in the neighbour search. Where jets may have fewer particles than that, use one
        more than the number of neighbours.
    """

    def __init__(self, model: nn.Module, *, empty_slots: int = 0) -> None:
        super().__init__()
        self.model = model
        self.empty_slots = empty_slots

    @torch.no_grad()
    def forward(self, x: Tensor, p4: Tensor) -> Tensor:
        """Logits (1, C) from ``x (P, F)`` and ``p4 (P, 4)`` in GeV of one jet of P > 0 particles."""
        order = canonical_order_of_one_jet(p4, x)
        x, p4 = x[order], p4[order]
        layout = RaggedLayout.of_one_jet(x.shape[0], self.empty_slots, device=x.device)
        return self.model(x, p4, layout.batch, layout)
