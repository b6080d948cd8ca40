from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pcloud.images import GROUPS, GroupConv2d, GroupPool2d, LiftingConv2d, group_layers

pytestmark = pytest.mark.rounding

groups = pytest.mark.parametrize("name", GROUPS)
sizes = pytest.mark.parametrize("size", [12, 13])
strides = pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 2, 0), (4, 1, 0), (1, 2, 0)]
)


def quarter_turns(group):
    return [g for g in range(group.order) if 4 * g % group.rotations == 0]


def act(group, maps, g):
    """An element on maps (B, C, G, H, W): pixels move, orientation h comes from g^-1 h."""
    return group.transform(maps[:, :, group.from_inverse[g]], g)


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@groups
@sizes
@strides
@torch.no_grad()
def test_lifting_turns_with_the_image(name, size, kernel, stride, padding):
    group, images = GROUPS[name], random(2, 3, size, size)
    layer = LiftingConv2d(3, 4, kernel, stride, padding, group=group)
    maps = layer(images)
    for g in quarter_turns(group):
        turned = layer(group.transform(images, g))
        torch.testing.assert_close(turned, act(group, maps, g), rtol=0, atol=1e-5)


@groups
@sizes
@strides
@torch.no_grad()
def test_group_convolution_turns_with_the_maps(name, size, kernel, stride, padding):
    group = GROUPS[name]
    maps = random(1, 2, group.order, size, size)
    layer = GroupConv2d(2, 3, kernel, stride, padding, group=group)
    result = layer(maps)
    for g in quarter_turns(group):
        turned = layer(act(group, maps, g))
        torch.testing.assert_close(turned, act(group, result, g), rtol=0, atol=1e-5)


@groups
@sizes
@torch.no_grad()
def test_pooling_and_normalisation_turn_with_the_maps(name, size):
    group, layers = GROUPS[name], group_layers(name)
    maps = random(2, 3, group.order, size, size)
    norm = layers.norm(3).train()
    for layer in (layers.max_pool(2, 2), layers.average_pool(2, 2), layers.max_pool(3, 2, 1), norm):
        result = layer(maps)
        for g in quarter_turns(group):
            turned = layer(act(group, maps, g))
            torch.testing.assert_close(turned, act(group, result, g), rtol=0, atol=1e-5)


@torch.no_grad()
def test_plain_pooling_of_an_odd_size_fails_the_test():
    maps, pool = random(1, 1, 17, 17), nn.MaxPool2d(2, 2)
    turned = pool(torch.rot90(maps, 1, (2, 3)))
    assert not torch.allclose(turned, torch.rot90(pool(maps), 1, (2, 3)), atol=1e-2)


@torch.no_grad()
def test_a_group_convolution_is_that_of_its_definition():
    """(f * psi)(g) = sum over h of f(h) convolved with psi(g^-1 h), turned by g."""
    group = GROUPS["p4m"]
    maps = random(1, 2, group.order, 6, 6)
    layer = GroupConv2d(2, 1, 3, bias=False, group=group)
    for g in range(group.order):
        expected = 0
        for h in range(group.order):
            weight = group.transform(layer.weight[:, :, group.from_inverse[g, h]], g)
            expected = expected + F.conv2d(maps[:, :, h], weight)
        torch.testing.assert_close(layer(maps)[:, :, g], expected, rtol=1e-4, atol=1e-5)


def bar(size, degrees):
    """A smooth bar, ten pixels long and three wide."""
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = c * x - s * y, s * x + c * y
    return torch.exp(-((along / 5) ** 2) - (across / 1.5) ** 2).view(1, 1, size, size)


@torch.no_grad()
def test_a_bar_at_45_degrees_is_seen_by_filters_that_turn_so_far():
    change = {}
    for name in ("p4", "c8"):
        layer = LiftingConv2d(1, 1, 11, bias=False, group=GROUPS[name])
        layer.weight.copy_(bar(11, 0))
        along, diagonal = (layer(bar(31, degrees)).max() for degrees in (0, 45))
        change[name] = float(1 - diagonal / along)
    assert abs(change["c8"]) < 0.05
    assert change["p4"] > 0.25


def spirals(angle):
    """Smooth spirals (20, 1, 33, 33), turned by `angle` in rad."""
    y, x = torch.meshgrid(*[torch.arange(33) - 16.0] * 2, indexing="ij")
    phi, radius = torch.atan2(-y, x) - angle, torch.hypot(x, y)
    generator = torch.Generator().manual_seed(0)
    winding, phase = torch.randn(2, 20, 1, 1, generator=generator)
    wave = torch.cos(2 * phi + 0.4 * winding * radius + 3 * phase)
    return (torch.exp(-((radius / 6) ** 2)) * (1 + wave * torch.tanh(radius / 3))).unsqueeze(1)


@pytest.mark.parametrize(("less", "more"), [("p4", "c8"), ("p4m", "d8")])
@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_turns_by_45_degrees_change_less_with_eight_orientations(less, more, kernel):
    """Of means over pixels of two convolutions, relative to their spread among the images."""
    change = {}
    for name in (less, more):
        torch.manual_seed(0)
        group, half = GROUPS[name], kernel // 2
        network = nn.Sequential(
            LiftingConv2d(1, 8, kernel, padding=half, group=group),
            nn.ReLU(),
            GroupConv2d(8, 8, kernel, padding=half, group=group),
            nn.ReLU(),
        )
        outputs = [network(spirals(a)).mean(dim=(2, 3, 4)) for a in (0.0, math.pi / 4)]
        difference = (outputs[1] - outputs[0]).square().mean(0).sqrt()
        change[name] = float(difference.norm() / outputs[0].std(0).norm())
    assert change[more] < 0.5 * change[less]


@groups
def test_the_weights_are_shared(name):
    group = GROUPS[name]
    lifting = LiftingConv2d(3, 4, 5, group=group)
    assert sum(p.numel() for p in lifting.parameters()) == 4 * 3 * 25 + 4
    group_conv = GroupConv2d(3, 4, 5, group=group)
    assert sum(p.numel() for p in group_conv.parameters()) == 4 * 3 * group.order * 25 + 4


def test_windows_that_fit_are_left_alone():
    maps = random(1, 2, 4, 16, 16)
    expected = F.max_pool2d(maps.flatten(1, 2), 2, 2).unflatten(1, (2, 4))
    assert torch.equal(GroupPool2d(2, 2)(maps), expected)
