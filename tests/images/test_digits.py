from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcloud.errors import InputError
from pcloud.images import ImageSet, balanced, build_network, rotate, scatter, turn_at_random
from tests.images.made import bars

DIGITS = ImageSet(torch.from_numpy(bars(40)[0])[:, None], torch.from_numpy(bars(40)[1]))


def test_scattered_digits_are_whole_and_everywhere():
    images = scatter(DIGITS, 50, seed=2).images
    assert images.shape == (40, 1, 50, 50)
    corners = []
    for image, digit in zip(images[:, 0], DIGITS.images[:, 0], strict=True):
        windows = image.unfold(0, 18, 1).unfold(1, 18, 1)
        found = (windows == digit).all(-1).all(-1).nonzero()
        assert len(found) == 1
        assert image.sum() == digit.sum()
        corners.append(found[0])
    corners = torch.stack(corners).float()
    assert corners.min() < 5
    assert corners.max() > 27
    assert corners.T.corrcoef()[0, 1].abs() < 0.5


def test_turned_digits_have_angles_of_their_own_and_come_again():
    turned = turn_at_random(DIGITS, seed=3)
    assert turned.images.dtype == torch.uint8
    assert torch.equal(turned.images, turn_at_random(DIGITS, seed=3).images)
    angles = np.random.default_rng(3).uniform(0, 2 * math.pi, 40)
    expected = rotate(DIGITS.images[7:8].float(), float(angles[7]))
    assert (turned.images[7:8].float() - expected).abs().max() <= 0.51


def test_classes_are_balanced():
    assert balanced(DIGITS, 21).labels.bincount().tolist() == [10, 11]
    with pytest.raises(InputError, match="class 1 has 14 images, 20 are required"):
        balanced(DIGITS, 40)


def test_turned_filters_have_the_weights_of_as_many_plain_ones():
    def parameters(name, **options):
        network = build_network(name, 1, 10, (28, 28), **options)
        return sum(p.numel() for p in network.parameters())

    assert parameters("rotated_dense", width=100, invariant=True) == parameters("dense")
    extra = 300 * 10  # the last layer sees four answers of each filter
    assert parameters("rotated_dense", width=100) == parameters("dense") + extra


@torch.no_grad()
def test_the_layer_with_turned_filters_sees_turned_images_as_permuted_answers():
    network = build_network("rotated_dense", 1, 10, (18, 18)).eval()
    images = DIGITS.images.float() / 255
    answers = network.hidden(images).unflatten(1, (-1, 4))
    turned = network.hidden(torch.rot90(images, 1, (2, 3))).unflatten(1, (-1, 4))
    torch.testing.assert_close(turned, answers.roll(1, dims=2), rtol=1e-4, atol=1e-4)


def test_quarter_turns_move_pixels_in_equal_numbers_for_each_class_and_angle():
    labels = torch.arange(80) % 2
    digits = ImageSet(torch.randint(0, 256, (80, 1, 9, 9), dtype=torch.uint8), labels, ["a", "b"])
    turned = turn_at_random(digits, seed=1, angles="quarter").images
    counts = torch.zeros(2, 4, dtype=torch.int64)
    for image, new, label in zip(digits.images, turned, labels.tolist(), strict=True):
        same = [torch.equal(torch.rot90(image, turn, (1, 2)), new) for turn in range(4)]
        assert sum(same) == 1
        counts[label, same.index(True)] += 1
    assert (counts == 10).all()
    quarter = rotate(digits.images[:1].float(), math.pi / 2)
    torch.testing.assert_close(
        quarter, torch.rot90(digits.images[:1].float(), 1, (2, 3)), atol=0.01, rtol=0
    )
    with pytest.raises(InputError, match="square images, not 9x8"):
        turn_at_random(ImageSet(digits.images[..., :8], labels, ["a", "b"]), angles="quarter")
    with pytest.raises(InputError, match="any or quarter, got 'half'"):
        turn_at_random(digits, angles="half")
