"""Tokens of equivariant transformers: the geometric algebra, frames and references."""

from __future__ import annotations

import pytest
import torch
from lgatr import PrimitivesConfig
from lgatr.primitives import geometric_product

from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn import RaggedLayout
from pcloud.nn.lorentz.tokens import SpacetimeTokens, midway_frame, vector, wedge
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding


def make_tokens(**options):
    defaults = {"mass": "regulated", "scalars": "none", "beams": "plane", "time": True}
    return SpacetimeTokens(7, scale=20.0, **{**defaults, **options})


def test_the_wedge_is_half_the_commutator_of_the_geometric_product():
    a, b = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    config = PrimitivesConfig()
    ab = geometric_product(vector(a), vector(b), config=config)
    ba = geometric_product(vector(b), vector(a), config=config)
    torch.testing.assert_close(wedge(a, b), (ab - ba) / 2)


def test_jet_and_detector_move_alike_and_products_stay():
    _, p4, batch = make_jets([30, 20])
    p4, layout = p4.double(), RaggedLayout.from_batch(batch)
    references = torch.eye(4, dtype=torch.float64)  # the first is the detector at rest
    boosted, frames = midway_frame(p4, references, layout)
    total = torch.zeros(2, 4, dtype=torch.float64).index_add(0, batch, boosted)
    jets = total / kin.mass2(total).sqrt().unsqueeze(-1)
    torch.testing.assert_close(jets[:, 0], frames[:, 0, 0])
    torch.testing.assert_close(jets[:, 1:], -frames[:, 0, 1:])
    torch.testing.assert_close(
        kin.minkowski_dot(boosted.unsqueeze(1), frames[batch]),
        kin.minkowski_dot(p4.unsqueeze(1), references),
    )


def test_a_jet_of_one_light_particle_is_boosted_no_further_than_the_limit():
    p4 = torch.tensor([[500.0, 300.0, 0.0, 400.0]], dtype=torch.float64)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 1, 1]))
    time = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    boosted, frames = midway_frame(p4, time, layout)
    assert frames[0, 0, 0].item() == pytest.approx(20)
    assert frames[1, 0].tolist() == [1, 0, 0, 0]  # the empty jet stays where it is
    assert boosted[0, 0].item() == pytest.approx(500 / 40, rel=1e-2)


def test_a_class_token_and_the_references_stand_before_the_particles():
    x, p4, batch = make_jets([3, 1, 2])
    layout = RaggedLayout.from_batch(batch)
    multivectors, scalars, nodes = make_tokens(scalars="features")(x, p4, layout)
    assert nodes.counts.tolist() == [6, 4, 5]
    first = nodes.ptr[:-1]
    assert not multivectors[first].any()
    assert scalars[:, 0].nonzero().flatten().tolist() == first.tolist()
    assert multivectors[first + 1, 5:11].any(1).all()  # the plane of the beams
    assert multivectors[first + 2, 1].min() >= 1  # time
    particles = torch.ones(len(scalars), dtype=torch.bool)
    particles[torch.cat([first, first + 1, first + 2])] = False
    torch.testing.assert_close(scalars[particles, 1:], x.double())


@pytest.mark.parametrize(("beams", "count"), [("none", 0), ("plane", 1), ("lightlike", 2)])
@pytest.mark.parametrize("time", [False, True])
def test_references_can_be_chosen(beams, count, time):
    x, p4, batch = make_jets([3, 1, 2])
    _, _, nodes = make_tokens(beams=beams, time=time)(x, p4, RaggedLayout.from_batch(batch))
    assert (nodes.counts - torch.tensor([3, 1, 2])).tolist() == [1 + count + time] * 3


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'lightlike'"):
        make_tokens(beams="lightlik")
    with pytest.raises(UnknownNameError, match="did you mean 'features'"):
        make_tokens(scalars="feature")
