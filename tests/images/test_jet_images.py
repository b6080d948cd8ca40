from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import InputError, UnknownNameError
from pcloud.images import JetImages, centre, flip, normalise, pixelate, turn
from pcloud.nn import RaggedLayout
from pcloud.nn.pooling import sum_pool

pytestmark = pytest.mark.rounding

COUNTS = [1, 2, 3, 30, 57]


@pytest.fixture
def jets():
    """Positions, weights, layout; float64."""
    generator = torch.Generator().manual_seed(0)
    layout = RaggedLayout.from_ptr(torch.tensor([0, *np.cumsum(COUNTS)]))
    pos = 0.2 * torch.randn(sum(COUNTS), 2, generator=generator, dtype=torch.float64)
    weight = 20 * torch.rand(len(pos), generator=generator, dtype=torch.float64) + 0.5
    return pos, weight, layout


def moment(pos, weight, layout, power):
    return sum_pool(pos**power * weight.unsqueeze(-1), layout)


def turned(pos, angle):
    c, s = math.cos(angle), math.sin(angle)
    return pos @ torch.tensor([[c, s], [-s, c]], dtype=pos.dtype)


def test_a_centred_jet_has_its_centroid_at_zero(jets):
    pos, weight, layout = jets
    assert moment(centre(pos, weight, layout), weight, layout, 1).abs().max() < 1e-12
    shifted = centre(pos + torch.tensor([0.3, -0.1]), weight, layout)
    torch.testing.assert_close(shifted, centre(pos, weight, layout))


def test_a_turned_jet_is_longest_along_the_second_axis(jets):
    pos, weight, layout = jets
    before = centre(pos, weight, layout)
    after = turn(before, weight, layout)
    mixed = sum_pool(after.prod(dim=-1) * weight, layout)
    assert mixed.abs().max() < 1e-12
    squares = moment(after, weight, layout, 2)
    assert (squares[:, 1] >= squares[:, 0] - 1e-12).all()
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))  # nothing but a turn
    torch.testing.assert_close(squares.sum(-1), moment(before, weight, layout, 2).sum(-1))


def test_a_flipped_jet_has_positive_third_moments(jets):
    pos, weight, layout = jets
    after = flip(centre(pos, weight, layout), weight, layout)
    assert (moment(after, weight, layout, 3) >= -1e-12).all()
    torch.testing.assert_close(after.abs(), centre(pos, weight, layout).abs())


@pytest.mark.parametrize("angle", [0.3, 1.5, 2.9, -2.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_together_they_undo_shifts_turns_and_mirrors(jets, angle, sign):
    pos, weight, layout = jets

    def standard(pos):
        for step in (centre, turn, flip):
            pos = step(pos, weight, layout)
        return pos

    moved = turned(pos * torch.tensor([sign, 1]), angle) + torch.tensor([0.2, 0.5])
    several = layout.counts[layout.batch] > 2  # two particles have no third moment across
    torch.testing.assert_close(standard(moved)[several], standard(pos)[several])
    assert not torch.allclose(centre(moved, weight, layout), centre(pos, weight, layout))


def test_pixels_are_those_of_a_histogram(jets):
    pos, weight, layout = jets
    images = pixelate(pos, weight.unsqueeze(-1), layout, pixels=9, half_width=0.3)
    for i in range(len(COUNTS)):
        own = layout.batch == i
        expected, *_ = np.histogram2d(
            *pos[own].T.numpy(), bins=9, range=[(-0.3, 0.3)] * 2, weights=weight[own].numpy()
        )
        torch.testing.assert_close(images[i, 0], torch.from_numpy(expected))


def test_particles_outside_are_left_out(jets):
    pos, weight, layout = jets
    images = pixelate(pos + 10, weight.unsqueeze(-1), layout)
    assert images.shape == (len(COUNTS), 1, 37, 37)
    assert not images.any()
    assert torch.equal(normalise(images), images)


def test_images_have_the_derivative_of_their_pixel_in_each_momentum(jets):
    pos, weight, layout = jets
    weight.requires_grad_()
    images = pixelate(pos, weight.unsqueeze(-1), layout, pixels=9, half_width=0.4)
    wanted = torch.rand_like(images)
    (gradient,) = torch.autograd.grad((images * wanted).sum(), weight)
    row, column = ((pos + 0.4) / 0.8 * 9).floor().long().unbind(-1)
    inside = ((row >= 0) & (row < 9) & (column >= 0) & (column < 9)).nonzero().squeeze()
    expected = torch.zeros_like(gradient)
    expected[inside] = wanted[layout.batch[inside], 0, row[inside], column[inside]]
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.gradcheck(
        lambda w: normalise(pixelate(pos, w.unsqueeze(-1), layout, pixels=3)), weight
    )


def simulated(number=200):
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:number])
    return data, RaggedLayout.from_ptr(data.ptr)


def test_jet_images_do_not_change_under_rotations_and_boosts_along_the_beam():
    data, layout = simulated()
    p4 = data.p4.double()
    pt, eta, phi, mass = kin.pt(p4), kin.eta(p4), kin.phi(p4), kin.mass(p4)
    moved = kin.from_pt_eta_phi_mass(pt, eta, phi + 2.5, mass.clamp(min=0))
    images = JetImages()
    before = images(data.x, kin.from_pt_eta_phi_mass(pt, eta, phi, mass.clamp(min=0)), layout)
    after = images(data.x, moved, layout)
    same = (before - after).abs().amax(dim=(1, 2, 3)) < 1e-9
    assert same.double().mean() > 0.99  # a particle on the edge of a pixel may change sides


def test_top_jets_are_wider_than_qcd_jets():
    data, layout = simulated(2000)
    mean = torch.stack([JetImages()(data.x, data.p4, layout)[data.y == c].mean(0) for c in (0, 1)])
    radius = (torch.arange(37) - 18).abs()
    away = (radius[:, None] > 3) | (radius > 3)
    qcd, top = mean[:, 0, away].sum(-1)
    assert top > 1.5 * qcd


def test_charged_and_neutral_add_up():
    data, layout = simulated(20)
    generator = torch.Generator().manual_seed(0)
    charge = torch.randint(-1, 2, (len(data.p4), 1), generator=generator)
    make = JetImages(("pt", "charged", "neutral"), charge=0)
    make_plain = [pixelate_of(make, charge, data, layout, i) for i in range(3)]
    torch.testing.assert_close(make_plain[1] + make_plain[2], make_plain[0])
    assert make_plain[1].any()
    assert make_plain[2].any()


def pixelate_of(make, charge, data, layout, channel):
    values = make._values(make.channels[channel], charge, kin.pt(data.p4)).unsqueeze(-1)
    return pixelate(data.p4[:, 1:3] / 1000, values, layout)


def test_channels_are_checked():
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        JetImages(("counts",))
    with pytest.raises(InputError, match="charge"):
        pcloud.build_model("image_cnn", 7, channels=("charged",))


def test_the_resnext_has_the_size_of_the_papers():
    """1.46 M parameters in the comparison of top taggers, arXiv:1902.09914."""
    model = pcloud.build_model("image_resnext", 7)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.46e6, rel=0.01)
