from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from pcloud.images import rotate

pytestmark = pytest.mark.rounding


def images(height, width):
    return torch.rand(3, 2, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [8, 9])
def test_a_quarter_turn_is_exact(size):
    for quarters in range(-3, 4):
        turned = rotate(images(size, size), quarters * math.pi / 2)
        expected = torch.rot90(images(size, size), quarters, (-2, -1))
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(11, 11), (12, 12), (9, 14)])
@pytest.mark.parametrize("degrees", [17.0, 45.0, -110.0, 200.0])
def test_turned_images_are_those_of_scipy(shape, degrees):
    turned = rotate(images(*shape), math.radians(degrees))
    expected = ndimage.rotate(
        images(*shape).numpy(), degrees, axes=(-2, -1), reshape=False, order=1, mode="grid-constant"
    )
    torch.testing.assert_close(turned, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_every_image_has_its_own_angle():
    angles = torch.tensor([0.0, 0.3, -1.2])
    together = rotate(images(9, 9), angles)
    for i, angle in enumerate(angles):
        torch.testing.assert_close(together[i : i + 1], rotate(images(9, 9)[i : i + 1], angle))
