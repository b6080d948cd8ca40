"""Options that are sequences: any number of layers, or an error of one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.errors import InputError
from tests.models.contract import make_jets

WIDTHS = [[], [6], [6, 5], [6, 5, 4], [6, 5, 4, 7]]
SIZE = {"size": (28, 28)}


def linears(module):
    return [m.out_features for m in module.modules() if isinstance(m, nn.Linear)]


def check_scores(model):
    x, p4, batch = make_jets([3, 1, 5])
    assert model.eval()(x, p4, batch).shape == (3, 3)


def build(name, **options):
    torch.manual_seed(0)
    return pcloud.build_model(name, make_jets([3])[0].shape[1], 3, **options)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("name", ["pfn", "efn"])
def test_networks_of_sums_have_just_these_layers(name, widths):
    model = build(name, phi_widths=widths, head_widths=[4])
    assert linears(model.phi) == widths
    check_scores(model)
    model = build(name, head_widths=widths)
    assert linears(model.head) == [*widths, 3]
    check_scores(model)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("name", ["particlenet", "dgcnn", "part", "transformer", "pcnn"])
def test_heads_have_just_these_layers(name, widths):
    options = {"num_layers": 1, "num_class_layers": 1} if name in ("part", "transformer") else {}
    model = build(name, head_widths=widths, **options)
    assert linears(model.head) == [*widths, 3]
    check_scores(model)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_observables_have_just_these_layers(widths):
    for name in ("hl_mlp", "hl_logistic"):
        assert linears(build(name, widths=widths)) == [*widths, 3]


@pytest.mark.parametrize("widths", [[8], [8, 16, 8, 16]], ids=str)
def test_embeddings_and_edge_convolutions_have_any_number_of_layers(widths):
    check_scores(build("dgcnn", widths=widths, embed_width=8, k=3))
    check_scores(build("part", embed_widths=widths, num_layers=1, num_class_layers=1))
    check_scores(build("part", pair_widths=widths, num_layers=1, num_class_layers=1))
    check_scores(build("particlenet", widths=[widths] * len(widths), k=3))
    check_scores(build("pcnn", stage_widths=[widths] * len(widths)))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dgcnn", {"widths": []}, "widths needs at least one width"),
        ("part", {"embed_widths": []}, "embed_widths needs at least one width"),
        ("particlenet", {"widths": [[]]}, r"widths\[0\] needs at least one width"),
        ("particlenet", {"widths": [64, 64]}, r"widths\[0\] must be a list"),
        ("particlenet", {"k": [3, 4]}, "k has 2 values for 3 blocks"),
        ("pcnn", {"stage_widths": [[8], []]}, r"stage_widths\[1\] needs at least one width"),
        ("pfn", {"head_widths": 64}, "head_widths must be a list such as"),
        ("pfn", {"phi_widths": [64, -1]}, "phi_widths must contain positive integers, got -1"),
        ("pfn", {"phi_widths": [64, 2.5]}, "phi_widths must contain positive integers, got 2.5"),
        ("pfn", {"phi_widths": "64"}, "phi_widths must be a list"),
        ("hl_mlp", {"observables": []}, "observables needs at least one name"),
        ("hl_mlp", {"observables": "mass"}, "observables must be a list"),
        ("image_cnn", {"channels": []}, "channels needs at least one name"),
        ("lorentznet", {"beams": [[1, 0, 0]]}, "no four-momentum"),
        ("pelican", {"beams": [1, 2, 3, 4]}, "no four-momentum"),
        ("cnn", {"size": (28,)}, r"size must be \[height, width\]"),
        ("cnn", {"size": (28, 28), "widths": []}, "widths needs at least one width"),
        ("resnet34", {"num_blocks": [1, 0]}, "num_blocks must contain positive integers, got 0"),
        ("cnn", {}, "model 'cnn' needs the option size"),
        ("rotated", {}, "model 'rotated' needs the option size"),
        ("pfn", {"dropout": 7.0}, "cannot be built with"),
    ],
)
def test_other_lengths_are_an_error_of_one_line(name, options, said):
    with pytest.raises(InputError, match=said) as caught:
        pcloud.build_model(name, 3, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("features", "outputs"), [(-1, 2), (7.5, 2), ("7", 2), (7, 0), (7, True)])
def test_numbers_of_features_and_outputs_are_checked(features, outputs):
    with pytest.raises(InputError, match="must be an integer of at least"):
        pcloud.build_model("pfn", features, outputs)


def test_no_beams_are_allowed():
    for name in ("lorentznet", "pelican"):
        check_scores(build(name, beams=[], num_layers=1))


# Images


@pytest.mark.parametrize("pooling", ["max", "average", "none"])
@pytest.mark.parametrize("widths", [[2], [2, 3], [2, 3, 4], [2, 3, 4, 5, 6, 7]], ids=str)
def test_a_cnn_has_any_number_of_convolutions(widths, pooling):
    model = pcloud.build_model("cnn", 1, 10, **SIZE, widths=widths, pooling=pooling)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == widths
    assert linears(model) == [64, 32, 10]
    assert [m.padding for m in convolutions[:2]] == [(0, 0)] * len(convolutions[:2])
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("widths", [[64], [64, 32, 16]], ids=str)
def test_every_hidden_layer_of_a_cnn_is_linear(widths):
    assert linears(pcloud.build_model("cnn", 1, 10, **SIZE, head_widths=widths)) == [*widths, 10]


@torch.no_grad()
def test_many_group_convolutions_stay_invariant():
    torch.manual_seed(0)
    options = {"widths": [2, 3, 2, 2], "head_widths": [4]}
    model = pcloud.build_model("group_cnn", 1, 3, **SIZE, **options).eval()
    images = torch.rand(2, 1, 28, 28)
    turned = model(images.rot90(1, (2, 3)))
    torch.testing.assert_close(turned, model(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_cnn_is_the_same_network_as_that_of_two_convolutions_before():
    """Layers of the first version, in its order and with its names, with the same random numbers."""
    torch.manual_seed(0)
    before = nn.ModuleDict(
        {
            "features": nn.Sequential(
                *(nn.Conv2d(1, 8, 5), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(8, 16, 5), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2)),
            ),
            "hidden": nn.Sequential(nn.Conv2d(16, 64, 4), nn.ReLU(), nn.Identity()),
            "head": nn.Sequential(
                *(nn.Flatten(), nn.Dropout(0.0), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
            ),
        }
    ).eval()
    torch.manual_seed(0)
    model = pcloud.build_model("cnn", 1, 10, **SIZE).eval()
    images = torch.rand(4, 1, 28, 28)
    expected = before["head"](before["hidden"](before["features"](images)))
    assert torch.equal(model(images), expected)  # drawn in the same order
    other = pcloud.build_model("cnn", 1, 10, **SIZE).eval()
    other.load_state_dict(before.state_dict())
    assert torch.equal(other(images), expected)


# One jet


@pytest.mark.parametrize("name", pcloud.list_models())
@torch.no_grad()
def test_without_a_batch_all_particles_are_one_jet(name):
    torch.manual_seed(0)
    x, p4, batch = make_jets([5])
    model = pcloud.build_model(name, x.shape[1], 3).eval()
    expected = model(x, p4, batch)
    assert expected.shape == (1, 3)
    assert torch.equal(model(x, p4, None), expected)
    assert torch.equal(model(x, p4), expected)
    assert model(x[:0], p4[:0], None).shape == (1, 3)
