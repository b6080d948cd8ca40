from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError
from pcloud.interpret.attention import attention_maps
from pcloud.interpret.jets import Plane, mean_image, most_misclassified
from pcloud.io.jets import FlatJets
from pcloud.nn.attention.attention import SelfAttention


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return pcloud.load_dataset("simulated", "test")[:12]


@pytest.fixture(scope="module")
def part() -> torch.nn.Module:
    torch.manual_seed(0)
    options = {
        "embed_widths": (16, 16),
        "pair_widths": (8,),
        "num_heads": 2,
        "num_layers": 2,
        "num_class_layers": 1,
    }
    return pcloud.build_model("part", 7, 2, **options).eval()


def test_attention_is_what_the_layers_used(jets, part):
    """The weights, applied to the values, give the output of the first layer."""
    batch = collate(JetDataset(jets), torch.arange(len(jets)))
    maps = attention_maps(part, batch.x, batch.p4, batch.batch)
    assert maps.weights.shape == (2, int((batch.ptr.diff() ** 2).sum()), 2)
    sums = torch.zeros(2, len(batch.x), 2).index_add(1, maps.query, maps.weights)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    layer = next(m for m in part.modules() if isinstance(m, SelfAttention))
    seen = {}
    handle = layer.register_forward_hook(lambda m, given, out: seen.update(x=given[0], out=out))
    with torch.no_grad():
        part(batch.x, batch.p4, batch.batch)
        values = layer.qkv(seen["x"]).unflatten(1, (3, 2, -1))[:, 2]  # (N, heads, d)
        messages = maps.weights[0].unsqueeze(-1) * values[maps.key]
        mixed = torch.zeros_like(values).index_add(0, maps.query, messages)
        expected = layer.project(mixed.flatten(1))
    handle.remove()
    torch.testing.assert_close(seen["out"], expected, rtol=1e-3, atol=1e-5)
    assert not any(m._forward_hooks for m in part.modules())


def test_pairs_have_their_kinematics(jets, part):
    batch = collate(JetDataset(jets), torch.arange(3))
    maps = attention_maps(part, batch.x, batch.p4, batch.batch)
    assert (batch.batch[maps.query] == batch.batch[maps.key]).all()
    p4 = ak.flatten(jets[:3].p4)
    i = 1000
    a, b = p4[int(maps.query[i])], p4[int(maps.key[i])]
    m2 = max((a + b).mass2, 1e-8)
    assert float(maps.features[i, 3]) == pytest.approx(np.log(m2), abs=0.05)
    distance = np.hypot(a.rapidity - b.rapidity, a.deltaphi(b))
    assert float(maps.features[i, 2]) == pytest.approx(np.log(distance), abs=1e-3)
    edges, profile = maps.profile(2, bins=5)
    assert edges.shape == (6,)
    assert profile.shape == (2, 5)


def test_a_layer_that_does_not_look_has_profile_one(jets, part):
    batch = collate(JetDataset(jets), torch.arange(4))
    maps = attention_maps(part, batch.x, batch.p4, batch.batch)
    uniform = (1 / maps.size)[None, :, None].expand_as(maps.weights)
    flat = type(maps)(maps.query, maps.key, maps.features, uniform, maps.size)
    np.testing.assert_allclose(flat.profile(0)[1], 1, rtol=1e-5)


def test_networks_without_attention_are_refused(jets):
    batch = collate(JetDataset(jets), torch.arange(2))
    with pytest.raises(InputError, match="no attention"):
        attention_maps(pcloud.build_model("pfn", 7, 2), batch.x, batch.p4, batch.batch)


def test_the_plane_is_vectors_and_the_mean_image_adds_up(jets):
    plane = Plane.of(FlatJets.from_awkward(jets))
    axis = ak.sum(jets.p4, axis=1)
    np.testing.assert_allclose(plane.deta, ak.flatten(jets.p4.deltaeta(axis)), atol=1e-5)
    np.testing.assert_allclose(plane.dphi, ak.flatten(jets.p4.deltaphi(axis)), atol=1e-5)
    image = mean_image(plane, len(jets), size=2.0)
    assert image.sum() == pytest.approx(1)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert abs(row - 16) <= 2
    assert abs(column - 16) <= 2


def test_images_have_phi_along_the_first_axis():
    plane = Plane(np.array([0.5]), np.array([-0.5]), np.array([1.0]))
    image = mean_image(plane, 1, pixels=4, size=1.0, weights=np.array([3.0]))
    assert image[1, 3] == 3


def test_the_worst_jets_come_first():
    p = np.array([0.9, 0.2, 0.5, 0.1, 0.8])
    worst = most_misclassified(np.array([0, 0, 0, 1, 1]), np.stack([p, 1 - p], 1), 2)
    assert worst[0].tolist() == [1, 2]
    assert worst[1].tolist() == [4, 3]
