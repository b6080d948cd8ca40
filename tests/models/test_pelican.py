"""PELICAN: its size, and what beams and masses do to its scores."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import InputError
from pcloud.models import PELICAN
from pcloud.models.pelican import ProductEncoding
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding

ALONG = torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)


def make(**options):
    torch.manual_seed(0)
    return PELICAN(7, num_layers=2, width=24, message_width=16, **options).eval()


@torch.no_grad()
def change(model, transformed):
    """Largest change of a logit where the jets alone are transformed."""
    x, p4, batch = make_jets([30, 2, 12])
    p4 = p4.double()
    model = model.double()
    return (model(x, transformed(p4), batch) - model(x, p4, batch)).abs().max().item()


@torch.no_grad()
def test_the_network_has_its_published_size():
    model = pcloud.build_model("pelican", in_features=7).eval()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 208_428
    assert parameters == pytest.approx(208e3, rel=0.005)
    assert model(*make_jets([5, 20])).isfinite().all()


def test_beams_leave_rotations_about_them_and_no_beams_leave_everything():
    assert change(make(), lambda p4: kin.rotate_z(p4, 0.7)) < 1e-8
    assert change(make(), lambda p4: kin.boost(p4, ALONG)) > 1e-5
    assert change(make(beams=()), lambda p4: kin.boost(p4, ALONG)) < 1e-8


@torch.no_grad()
def test_rounding_to_float32_moves_scores_little():
    _, p4, batch = make_jets([50] * 4)
    p4, network = 10 * p4, make()  # jets of some 5 TeV
    before = network(None, p4, batch)
    after = network(None, kin.rotate_z(p4.double(), 0.7).float(), batch)
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_the_encoding_is_a_power_and_ignores_rounding_below_zero():
    encode = ProductEncoding(5).double()
    d = torch.tensor([0.0, 1e-3, 1.0, 1e6], dtype=torch.float64)
    a = encode.root.detach() ** 2 + 1e-6
    torch.testing.assert_close(encode(d), ((1 + d.unsqueeze(1)) ** a - 1) / a)
    assert torch.equal(encode(torch.tensor([-1e-9]).double()), encode(d[:1]))


def test_too_few_channels_are_refused():
    with pytest.raises(InputError, match="width must be above 10, got 8"):
        pcloud.build_model("pelican", in_features=7, width=8)
