from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pcloud.errors import UnknownNameError
from pcloud.images.groups import GROUPS, group_named

pytestmark = pytest.mark.rounding

groups = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)


def matrices(group) -> Tensor:
    """The elements as orthogonal matrices of the plane, (G, 2, 2)."""
    angle = 2 * torch.pi * torch.arange(group.rotations, dtype=torch.float64) / group.rotations
    c, s = angle.cos(), angle.sin()
    turns = torch.stack([c, -s, s, c], dim=-1).view(-1, 2, 2)
    mirror = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return torch.cat([turns, turns @ mirror]) if group.mirrors else turns


@groups
def test_products_are_those_of_matrices(group):
    elements = matrices(group)
    for g, h in itertools.product(range(group.order), repeat=2):
        expected = elements[g].T @ elements[h]
        torch.testing.assert_close(elements[group.from_inverse[g, h]], expected)


@groups
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_filters_turn_by_quarters_as_the_group_says(group, size):
    weight = torch.randn(size**2, generator=torch.Generator().manual_seed(0))
    turned = (group.filter_maps(size) @ weight).view(-1, size, size)
    for g in range(group.order):
        if 4 * g % group.rotations:
            continue
        for h in range(group.order):
            expected = group.transform(turned[group.from_inverse[g, h]], g)
            torch.testing.assert_close(turned[h], expected, rtol=0, atol=1e-6)


def test_two_turns_by_45_degrees_are_a_quarter_turn_of_a_smooth_filter():
    size = 11
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    smooth = torch.exp(-3 * ((x - 0.3) ** 2 + (y + 0.1) ** 2)).flatten()
    maps = GROUPS["c8"].filter_maps(size)
    inside = (torch.hypot(x, y) < 0.8).flatten()
    turned = [(m @ smooth)[inside] for m in (maps[1] @ maps[1], maps[2], maps[6])]
    assert (turned[0] - turned[1]).abs().max() < 0.1
    assert (turned[0] - turned[2]).abs().max() > 0.3  # the other direction is far away


def test_an_eighth_of_a_turn_is_anticlockwise_as_the_quarter_is():
    """A spot to the right goes up and right."""
    y, x = torch.meshgrid(*[torch.arange(7.0) - 3] * 2, indexing="ij")
    spot = torch.exp(-((x - 2) ** 2 + y**2) / 3)
    turned = torch.exp(-((x - 2**0.5) ** 2 + (y + 2**0.5) ** 2) / 3)
    found = (GROUPS["c8"].filter_maps(7)[1] @ spot.flatten()).view(7, 7)
    assert (found - turned).abs().max() < 0.25
    assert (found.flip(0) - turned).abs().max() > 0.5  # the other direction


eighths = pytest.mark.parametrize("group", [GROUPS["c8"], GROUPS["d8"]], ids=["c8", "d8"])


@eighths
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11])
def test_all_orientations_of_a_filter_have_the_same_sum(group, size):
    weight = torch.randn(size**2, generator=torch.Generator().manual_seed(0))
    sums = (group.filter_maps(size) @ weight).sum(1)
    torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=1e-4, atol=1e-5)


@eighths
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11])
def test_filters_turn_by_eighths_as_the_group_says(group, size):
    """One eighth after another is the sum of both, exactly: nothing is interpolated."""
    maps = group.filter_maps(size)
    for g, h in itertools.product(range(group.order), repeat=2):
        relative = group.from_inverse[g, h]  # g^-1 h
        torch.testing.assert_close(maps[g] @ maps[relative], maps[h], rtol=0, atol=1e-4)


def test_a_quarter_turn_of_an_image_is_no_eighth():
    with pytest.raises(ValueError, match="not a rotation by 90 degrees"):
        GROUPS["c8"].transform(torch.zeros(3, 3), 1)


def test_a_group_is_named_or_the_nearest_is():
    with pytest.raises(UnknownNameError, match="did you mean 'p4m'"):
        group_named("p4mm")
