"""EdgeConv against the explicit edge list of its papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcloud.nn import EdgeBlock, EdgeConv, RaggedLayout, knn
from pcloud.nn.graph import edge_conv, edge_conv_kernel

pytestmark = pytest.mark.rounding


def explicit(conv: EdgeBlock, x: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
    """The block with every message [x_i, x_j - x_i] written out, missing x_j = 0."""
    n, k = neighbors.shape
    padded = torch.cat([x, torch.zeros_like(x[:1])])
    center = x.unsqueeze(1).expand(n, k, -1)
    edges = torch.cat([center, padded[neighbors] - center], dim=-1).flatten(0, 1)
    weights = [conv.edge.weight, *(linear.weight for linear in conv.linears)]
    for weight, norm in zip(weights, conv.norms, strict=True):
        edges = nn.functional.relu(norm(edges @ weight.T))
    return nn.functional.relu(edges.view(n, k, -1).mean(1) + conv.shortcut(x))


def example(channels=(8, 16, 12)):
    torch.manual_seed(0)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 1, 3, 9, 49]))
    x = torch.randn(49, 5, dtype=torch.float64)
    conv = EdgeBlock(5, channels).double()
    for norm in conv.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return conv, x, knn(x, layout, 6)


@pytest.fixture(params=[2**20, 3000], ids=["whole", "in chunks"], autouse=True)
def chunk(request, monkeypatch):
    monkeypatch.setattr(edge_conv_kernel, "_CHUNK_BYTES", request.param)
    monkeypatch.setattr(edge_conv, "_MIN_TRAINED_BYTES", 0)  # the kernel, also on few edges


@pytest.mark.parametrize("smallest", [None, 0.0, 1e-6, 0.02])
@pytest.mark.parametrize("channels", [(8, 16, 12), (5, 5), (7,)])
def test_gradients_and_statistics_are_those_of_the_explicit_edge_list(channels, smallest):
    results = []
    for forward in (lambda conv, *args: conv(*args), explicit):
        conv, x, neighbors = example(channels)
        x.requires_grad_()
        for norm in conv.norms:
            if smallest is not None:  # where sums are divided by it, or not
                norm.weight.data = norm.weight.sign() * norm.weight.abs().clamp(min=0.02)
                norm.weight.data[1] = smallest
        out = forward(conv, x, neighbors)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        gradients = {name: p.grad for name, p in conv.named_parameters()}
        results.append({"out": out, "x": x.grad} | gradients | dict(conv.named_buffers()))
    for name, expected in results[1].items():
        torch.testing.assert_close(results[0][name], expected, msg=lambda m, n=name: f"{n}: {m}")


def test_scores_are_those_of_the_explicit_edge_list():
    conv, x, neighbors = example()
    for _ in range(30):
        conv(x, neighbors)
    conv.eval()
    expected = explicit(conv, x, neighbors)
    torch.testing.assert_close(conv(x, neighbors), expected)
    with torch.no_grad():
        torch.testing.assert_close(conv(x, neighbors), expected)


def test_a_scale_of_zero_has_finite_gradients():
    conv, x, neighbors = example()
    for norm in conv.norms:
        nn.init.zeros_(norm.weight)
    conv(x, neighbors).sum().backward()
    assert all(p.grad.isfinite().all() for p in conv.parameters())


def test_the_backward_pass_can_run_twice():
    conv, x, neighbors = example((8, 8, 8))
    out = conv(x.requires_grad_(), neighbors).square().sum()
    first = torch.autograd.grad(out, x, retain_graph=True)
    second = torch.autograd.grad(out, x)
    assert torch.equal(first[0], second[0])


def test_alike_neighbours_keep_the_digits_of_the_variance():
    conv, x, neighbors = example()
    near = (1e-3 * x + 10.0).requires_grad_()
    exact = conv(near, neighbors)
    single = conv.float()(near.float(), neighbors)
    spread = exact.std()
    assert (single.double() - exact).abs().median() < 1e-2 * spread


def test_second_derivatives_exist_in_evaluation():
    conv, x, neighbors = example((6, 6))
    conv.eval()
    hessian = torch.func.hessian(lambda x: conv(x, neighbors).square().sum())(x[:, :5])
    assert hessian.isfinite().all()
    assert hessian.any()


def test_bfloat16_trains():
    conv, x, neighbors = example()
    conv.float()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x.float(), neighbors)
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in conv.parameters())
    assert all(b.dtype in (torch.float32, torch.int64) for b in conv.buffers())


def test_equal_widths_have_the_identity_as_shortcut():
    assert isinstance(EdgeBlock(8, [8, 8]).shortcut, nn.Identity)


def test_edge_conv_is_the_largest_message():
    torch.manual_seed(0)
    conv = EdgeConv(5, 6).double()
    x = torch.randn(12, 5, dtype=torch.float64)
    neighbors = knn(x, RaggedLayout.from_ptr(torch.tensor([0, 12])), 4, loop=True)
    messages = torch.cat([x[:, None].expand(-1, 4, -1), x[neighbors] - x[:, None]], -1).flatten(
        0, 1
    )
    expected = nn.functional.leaky_relu(conv.norm(messages @ conv.edge.weight.T), 0.2)
    torch.testing.assert_close(conv(x, neighbors), expected.view(12, 4, 6).amax(1))
