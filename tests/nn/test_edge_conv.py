"""EdgeConv against the explicit edge list of its paper."""

from __future__ import annotations

import torch
from torch import nn

from pcloud.nn import EdgeConv, RaggedLayout, knn


def explicit(conv: EdgeConv, x: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
    """The block with every message [x_i, x_j - x_i] written out, missing x_j = 0."""
    n, k = neighbors.shape
    padded = torch.cat([x, torch.zeros_like(x[:1])])
    center = x.unsqueeze(1).expand(n, k, -1)
    edges = torch.cat([center, padded[neighbors] - center], dim=-1).flatten(0, 1)
    weights = [conv.edge.weight, *(linear.weight for linear in conv.linears)]
    for weight, norm in zip(weights, conv.norms, strict=True):
        edges = nn.functional.relu(norm(edges @ weight.T))
    return nn.functional.relu(edges.view(n, k, -1).mean(1) + conv.shortcut(x))


def example(seed: int = 0):
    torch.manual_seed(seed)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 1, 3, 9, 49]))
    x = torch.randn(49, 5, dtype=torch.float64)
    conv = EdgeConv(5, [8, 16, 12]).double()
    for norm in conv.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return conv, x, knn(x, layout, 6)


def test_edge_conv_is_the_explicit_edge_list():
    for training in (True, False):
        conv, x, neighbors = example()
        conv.train(training)
        torch.testing.assert_close(conv(x, neighbors), explicit(conv, x, neighbors))


def test_gradients_and_statistics_are_those_of_the_explicit_edge_list():
    results = []
    for forward in (lambda conv, *args: conv(*args), explicit):
        conv, x, neighbors = example()
        x.requires_grad_()
        out = forward(conv, x, neighbors)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        statistics = [buffer.clone() for buffer in conv.buffers()]
        results.append([x.grad, *(p.grad for p in conv.parameters()), *statistics])
    if not all(a is b or torch.allclose(a, b) for a, b in zip(*results, strict=True)):
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)


def test_equal_widths_have_the_identity_as_shortcut():
    assert isinstance(EdgeConv(8, [8, 8]).shortcut, nn.Identity)
