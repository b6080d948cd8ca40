"""Flow matching on clouds: symmetry, a known velocity, and a toy whose density is known."""

from __future__ import annotations

import math

import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.generative import FlowMatching, integrate
from pcloud.generative.flow_matching import match_by_first_coordinate
from pcloud.generative.velocity import VelocityNetwork
from pcloud.nn.layout import RaggedLayout


def layout_of(*counts: int) -> RaggedLayout:
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def test_velocities_of_permuted_particles_are_permuted():
    torch.manual_seed(0)
    layout = layout_of(4, 1, 7)
    network = VelocityNetwork(3, 2, 16, 2, 4).double()
    torch.nn.init.normal_(network.output.weight)
    x, time = torch.randn(12, 3).double(), torch.rand(3).double()
    condition = torch.randn(3, 2).double()
    order = torch.cat([torch.randperm(4), torch.tensor([4]), 5 + torch.randperm(7)])
    found = network(x, time, condition, layout)
    assert torch.allclose(network(x[order], time, condition, layout), found[order], atol=1e-6)
    # a jet alone, and a change of its neighbour in the batch
    alone = network(x[5:], time[2:], condition[2:], layout_of(7))
    assert torch.allclose(alone, found[5:], atol=1e-6)


@pytest.mark.parametrize(("method", "order"), [("midpoint", 2), ("heun", 2)])
def test_methods_are_of_second_order(method, order):
    start = torch.ones((), dtype=torch.float64)
    errors = [
        abs(
            float(integrate(lambda x, t: x * math.cos(t), start, steps, method))
            - math.exp(math.sin(1))
        )
        for steps in (100, 200)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)
    with pytest.raises(UnknownNameError, match="heun, midpoint"):
        integrate(lambda x, t: x, start, 1, "euler")
    with pytest.raises(InputError, match="steps must be at least 1"):
        integrate(lambda x, t: x, start, 0)


def test_matched_noise_has_the_order_of_the_particles():
    torch.manual_seed(1)
    layout = layout_of(3, 5)
    x, noise = torch.randn(8, 3), torch.randn(8, 3)
    found = match_by_first_coordinate(noise, x, layout)
    for jet in (slice(0, 3), slice(3, 8)):
        assert torch.equal(found[jet, 0].argsort(), x[jet, 0].argsort())
        assert sorted(map(tuple, found[jet].tolist())) == sorted(map(tuple, noise[jet].tolist()))


def test_losses_in_evaluation_do_not_change():
    torch.manual_seed(2)
    model = FlowMatching(3, num_labels=2, width=16, num_layers=1, num_heads=4).eval()
    layout = layout_of(3, 5)
    arguments = torch.randn(8, 3), torch.randn(2, 3), torch.tensor([0, 1]), layout
    first, second = model(*arguments), model(*arguments)
    assert first.shape == (2, 3)
    assert torch.equal(first, second)
    assert not torch.equal(model.train()(*arguments), first)
    with pytest.raises(InputError, match="multiple of num_heads"):
        FlowMatching(3, width=10, num_heads=4)


def test_a_gaussian_toy_is_learned():
    """Clouds of independent particles with a mean that depends on the class."""
    torch.manual_seed(3)
    model = FlowMatching(3, num_labels=2, width=32, num_layers=1, num_heads=4)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    counts = torch.randint(3, 8, (2000,))
    label = torch.arange(2000) % 2
    mean = torch.tensor([[1.0, 0.0, -0.5], [-1.0, 0.5, 0.5]])
    for _ in range(150):
        jets = torch.randint(2000, (128,))
        part = layout_of(*counts[jets].tolist())
        x = mean[label[jets]][part.batch] + 0.3 * torch.randn(part.num_particles, 3)
        u = 2.0 + 0.5 * torch.randn(128, 3)
        loss = model(x, u, label[jets], part)[:, :2].sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    generator = torch.Generator().manual_seed(4)
    kinds = torch.arange(600) % 2
    u, numbers = model.sample_jets(kinds, generator)
    assert u.mean().item() == pytest.approx(2.0, abs=0.1)
    assert u.std(0).mean().item() == pytest.approx(0.5, abs=0.1)
    assert numbers.float().mean().item() == pytest.approx(5.0, abs=0.4)
    made = layout_of(*numbers.tolist())
    x = model.sample_particles(u, kinds, made, generator, steps=8)
    for kind in (0, 1):
        own = x[kinds[made.batch] == kind]
        assert torch.allclose(own.mean(0), mean[kind], atol=0.12)
        assert torch.allclose(own.std(0), torch.full((3,), 0.3), atol=0.15)


def test_a_generator_and_its_objective_belong_together(tmp_path):
    for options, message in (
        ({"objective": "generate", "model": "pfn"}, "needs a generator, not model 'pfn'"),
        ({"model": "flow_matching"}, "is a generator: it needs --objective generate"),
        ({"objective": "generate", "features": "full"}, "features is not for a generator"),
        ({"objective": ["generate", "class"]}, "generate is learned alone"),
        ({"objective": "generate", "loss": "focal"}, "loss needs the objective class"),
    ):
        with pytest.raises(InputError, match=message):
            pcloud.train(data="simulated", out=str(tmp_path / "run"), progress=False, **options)
