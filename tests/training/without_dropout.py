"""A tiny model without random numbers, for comparisons of several processes with one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """Batch normalisation, and a sum over particles."""

    def __init__(self, in_features: int, num_outputs: int, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_features)
        self.embed = nn.Sequential(nn.Linear(in_features, width), nn.ReLU())
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor, p4: Tensor, batch: Tensor) -> Tensor:
        x = self.embed(self.norm(x))
        jets = x.new_zeros(int(batch.max()) + 1, x.shape[1]).index_add(0, batch, x)
        return self.head(torch.log1p(jets))
