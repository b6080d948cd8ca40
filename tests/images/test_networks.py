"""What every network on images keeps, and the symmetries of those that have them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.images import RotationAverage, build_network
from pcloud.models import model_info

pytestmark = pytest.mark.rounding

NETWORKS = pcloud.list_models("image")
SMALL = {
    "p4cnn": {"width": 4},
    "resnet34": {"width": 4, "num_blocks": (1, 1, 1, 1)},
    "group_resnet34": {"width": 4, "num_blocks": (1, 1, 1, 1)},
}
INVARIANT = [name for name in NETWORKS if "rotation" in model_info(name).symmetries]


def make(name, size=28, **options):
    torch.manual_seed(0)
    network = build_network(name, 3, 4, (size, size), **SMALL.get(name, {}) | options)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    return network.eval()


def images(size=28, number=3):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def change(network, transform, size) -> float:
    """Largest change of a logit, in units of their spread."""
    before = network(images(size))
    return float((network(transform(images(size))) - before).abs().max() / before.std())


def quarter(images):
    return torch.rot90(images, 1, (-2, -1))


def mirror(images):
    return images.flip(-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_row_of_logits_per_image_and_a_gradient_for_every_parameter(name):
    network = make(name).train()
    logits = network(images())
    assert logits.shape == (3, 4)
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_an_image_alone_scores_as_in_any_batch(name):
    network = make(name)
    together = network(images())
    alone = torch.cat([network(image[None]) for image in images()])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 0


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_saved_weights_give_the_same_scores(name):
    network, other = make(name), make(name)
    for p in other.parameters():
        p.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images()), network(images()))


@pytest.mark.parametrize("group", ["p4", "p4m", "c8", "d8"])
@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize("size", [28, 33])
def test_scores_are_invariant_under_quarter_turns(name, group, size):
    network = make(name, size, group=group)
    assert change(network, quarter, size) < 1e-5


@pytest.mark.parametrize("name", INVARIANT)
def test_mirror_images_differ_without_mirrors_in_the_group_and_not_with_them(name):
    for group, holds in {"p4": False, "c8": False, "p4m": True, "d8": True}.items():
        moved = change(make(name, 29, group=group), mirror, 29)
        assert moved < 1e-5 if holds else moved > 1e-3


@pytest.mark.parametrize(
    "options", [{"pooling": "average"}, {"pooling": "none"}, {"batch_norm": 1}]
)
def test_variants_of_the_small_cnn_keep_the_symmetry(options):
    assert change(make("group_cnn", 33, **options), quarter, 33) < 1e-5


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in INVARIANT])
def test_networks_without_the_symmetry_fail_the_test(name):
    assert change(make(name), quarter, 28) > 1e-3


def test_averaging_over_quarter_turns_makes_any_network_invariant():
    average = RotationAverage(make("cnn"), 4)
    assert change(average, quarter, 28) < 1e-5
    assert change(average, mirror, 28) > 1e-3
    assert change(make("rotated", average=4), quarter, 28) < 1e-5


@torch.no_grad()
def test_an_average_is_of_probabilities():
    network = make("cnn")
    turns = [torch.rot90(images(), k, (-2, -1)) for k in range(4)]
    expected = torch.stack([network(turn).softmax(-1) for turn in turns]).mean(0)
    torch.testing.assert_close(RotationAverage(network, 4)(images()).softmax(-1), expected)


def test_the_small_cnn_is_that_of_the_text_book():
    network = build_network("cnn", 3, 5, (69, 69))
    flat = 16 * 14 * 14
    weights = [3 * 25 * 8 + 8, 8 * 25 * 16 + 16, flat * 64 + 64, 64 * 32 + 32, 32 * 5 + 5]
    assert sum(p.numel() for p in network.parameters()) == sum(weights)


@torch.no_grad()
def test_a_convolution_of_full_size_is_a_layer_on_flattened_maps():
    network = make("cnn")
    maps = network.features(images())
    conv = network.hidden[0]
    flat = nn.functional.linear(maps.flatten(1), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(conv(maps).flatten(1), flat, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["group_cnn", "p4cnn"])
def test_groups_have_about_as_many_weights(name):
    plain = {"group_cnn": "cnn", "p4cnn": "z2cnn"}[name]
    number = sum(p.numel() for p in build_network(plain, 1, 10, (28, 28)).parameters())
    for group in ("p4", "p4m", "c8", "d8"):
        other = build_network(name, 1, 10, (28, 28), group=group).parameters()
        assert sum(p.numel() for p in other) == pytest.approx(number, rel=0.5)


@torch.no_grad()
def test_training_images_are_turned_and_test_images_are_not():
    network = make("rotated")
    assert torch.equal(network(images()), network.network(images()))
    network.train()
    assert not torch.allclose(network(images()), network(images()))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="too small"):
        build_network("cnn", 1, 10, (10, 10))
    with pytest.raises(InputError, match="square"):
        build_network("cnn", 1, 10, (28, 36))


@pytest.mark.parametrize("name", ["cnn", "group_cnn"])
@pytest.mark.parametrize("channels", [(4,), (4, 8, 12)])
@pytest.mark.parametrize("hidden", [(16,), (16, 12, 8)])
def test_a_cnn_has_the_layers_that_were_asked_for(name, channels, hidden):
    model = pcloud.build_model(
        name, 1, num_outputs=3, size=(44, 44), widths=channels, head_widths=hidden
    )
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert len(weights) == len(channels) + len(hidden) + 1
    linears = [m.out_features for m in model.head if isinstance(m, torch.nn.Linear)]
    assert linears == [*hidden[1:], 3]
    assert model(torch.rand(2, 1, 44, 44)).shape == (2, 3)


def test_a_cnn_without_layers_is_refused():
    for option in ("widths", "head_widths"):
        with pytest.raises(InputError, match=f"{option} needs at least one width"):
            pcloud.build_model("cnn", 1, size=(28, 28), **{option: []})


def test_lenet_is_the_cnn_with_these_options():
    options = {"widths": [6, 16], "padding": [2, 0], "pooling": "average", "activation": "tanh"}
    model = pcloud.build_model("cnn", 1, 10, size=(28, 28), head_widths=[120, 84], **options)
    assert sum(p.numel() for p in model.parameters()) == 61_706  # with a full second convolution
    sizes = []
    for layer in model.features:
        layer.register_forward_hook(lambda _, args, maps: sizes.append(tuple(maps.shape[1:])))
    model(torch.rand(2, 1, 28, 28))
    assert list(dict.fromkeys(sizes)) == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5)]
    assert not any(isinstance(module, torch.nn.ReLU) for module in model.modules())


@pytest.mark.parametrize("name", ["group_cnn", "rotated_dense"])
def test_filters_steps_and_activations_keep_the_symmetry(name):
    options = {"activation": "tanh", "head_widths": [12, 8]}
    if name == "group_cnn":
        options |= {"widths": [3, 4, 5], "kernel_size": [4, 3, 3], "stride": [2, 1, 1]}
        options |= {"padding": [1, 1, 1]}
    else:
        options["invariant"] = True
    torch.manual_seed(0)
    model = pcloud.build_model(name, 1, 3, size=(27, 27), **options).double().eval()
    images = torch.rand(2, 1, 27, 27, dtype=torch.float64)
    with torch.no_grad():
        scores = model(images)
        for turn in (1, 2, 3):
            turned = model(torch.rot90(images, turn, (2, 3)))
            torch.testing.assert_close(turned, scores, atol=1e-9, rtol=0)
    linears = [m.out_features for m in model.head if isinstance(m, torch.nn.Linear)]
    assert linears == ([8, 3] if name == "group_cnn" else [12, 8, 3])


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="kernel_size has 3 values for 2 layers"):
        pcloud.build_model("cnn", 1, size=(28, 28), kernel_size=[3, 3, 3])
    with pytest.raises(InputError, match="stride must contain integers of at least 1, got 0"):
        pcloud.build_model("cnn", 1, size=(28, 28), stride=0)
    with pytest.raises(InputError, match="nothing is left after convolution 2 of 9x9 pixels"):
        pcloud.build_model("cnn", 1, size=(20, 20), kernel_size=9)
    with pytest.raises(UnknownNameError, match="no activation named 'maxout'"):
        pcloud.build_model("cnn", 1, size=(28, 28), activation="maxout")
