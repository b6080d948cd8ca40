"""L-GATr and L-GATr-slim: sizes, what breaks their symmetry, and what float32 leaves of it."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import InputError
from pcloud.models import LGATr, LGATrSlim
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding

SMALL = {
    LGATr: {"num_layers": 2, "multivector_width": 8, "scalar_width": 8, "num_heads": 2},
    LGATrSlim: {"num_layers": 2, "vector_width": 8, "scalar_width": 16, "num_heads": 2},
}
MODELS = pytest.mark.parametrize("model", SMALL)
BOOST = torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)
ACROSS = torch.tensor([0.6, 0.0, 0.0], dtype=torch.float64)


def make(model, **options):
    torch.manual_seed(0)
    return model(7, **SMALL[model], **options).double().eval()


@torch.no_grad()
def change(model, transformed):
    """Largest change of a logit where the jets alone are transformed."""
    x, p4, batch = make_jets([30, 2, 12])
    p4 = p4.double()
    return (model(x, transformed(p4), batch) - model(x, p4, batch)).abs().max().item()


def turn(p4):
    return kin.rotate_z(p4, 0.7)


def along(p4):
    return kin.boost(p4, BOOST)


def across(p4):
    return kin.boost(p4, ACROSS)


@pytest.mark.parametrize(
    ("name", "published", "parameters"),
    [("lgatr", 1.1e6, 1_077_252), ("lgatr_slim", 2.0e6, 2_030_242)],
)
@torch.no_grad()
def test_the_networks_have_their_published_size(name, published, parameters):
    model = pcloud.build_model(name, in_features=7).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert parameters == pytest.approx(published, rel=0.025)
    assert model(*make_jets([5, 40])).isfinite().all()


@MODELS
def test_beams_and_time_leave_rotations_about_the_beam(model):
    network = make(model)
    assert change(network, turn) < 1e-8
    assert change(network, along) > 1e-5
    assert change(network, across) > 1e-5


def test_the_transverse_plane_alone_leaves_boosts_along_the_beam_too():
    network = make(LGATr, time=False)
    assert change(network, turn) < 1e-8
    assert change(network, along) < 1e-8
    assert change(network, across) > 1e-5


@MODELS
def test_without_references_every_frame_is_the_same(model):
    network = make(model, beams="none", time=False)
    assert max(change(network, t) for t in (turn, along, across)) < 1e-8


@MODELS
def test_features_are_seen_where_asked_for(model):
    x, p4, batch = make_jets([5, 3])
    for scalars, seen in (("none", False), ("features", True)):
        network = make(model, scalars=scalars).float()
        assert torch.equal(network(x, p4, batch), network(2 * x, p4, batch)) is not seen


@MODELS
@torch.no_grad()
def test_rounding_to_float32_moves_scores_little(model):
    _, p4, batch = make_jets([50] * 4)
    p4 = 10 * p4  # jets of some 5 TeV
    network = make(model).float()
    before = network(None, p4, batch)
    after = network(None, kin.rotate_z(p4.double(), 0.7).float(), batch)
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_a_network_that_has_scored_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        model = LGATr(7, **SMALL[LGATr])
        model(*make_jets([3, 2]))
    model = LGATr(7, **SMALL[LGATr])
    model(*make_jets([3, 2])).sum().backward()
    assert model.net.linear_in.weight.grad.any()


def test_a_plane_is_refused_where_there_are_no_bivectors():
    with pytest.raises(InputError, match="beams='plane' is for lgatr"):
        pcloud.build_model("lgatr_slim", in_features=7, beams="plane")
