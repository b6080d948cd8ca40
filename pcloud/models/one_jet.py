"""Networks for one jet at a time, as triggers see them, to be exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcloud.nn.layout import RaggedLayout
from pcloud.order import canonical_order_of_one_jet

__all__ = ["OneJet"]


class OneJet(nn.Module):
    """A network that takes the particles of one jet, and can be exported for any number of them.

    The layout of the jet is made of tensor operations alone, so that :func:`torch.export.export`
    sees a graph with a free number of particles, and so is the canonical order of the particles, in
    which ties among neighbours are decided. Scores are those of the network in a batch::

        particles = torch.export.Dim("particles", min=2, max=500)
        program = torch.export.export(
            OneJet(model.eval(), empty_slots=8), (x, p4), dynamic_shapes=({0: particles},) * 2
        )
        torch._inductor.aoti_compile_and_package(program, package_path="tagger.pt2")

    ParticleNet, DGCNN, PFN, EFN and LorentzNet can be exported so; networks with attention cannot.

    Parameters
    ----------
    model : nn.Module
        A network of this library, in evaluation mode.
    empty_slots : int
        Slots for no particle in the neighbour search: one more than the neighbours it looks for,
        where jets may have fewer particles than that.
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
