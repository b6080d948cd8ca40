"""Names of earlier versions: options, weights, and the line that a warning names."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pcloud
from pcloud.errors import OldNameWarning
from pcloud.images import build_network
from pcloud.models import PFN, ParticleNet, hl_logistic, model_info, particlenet_lite
from pcloud.models.old_names import OPTIONS, WEIGHTS, current_options
from tests.models.contract import make_jets

CLOUDS: dict[str, dict[str, Any]] = {
    "dgcnn": {"channels": [8, 8], "embedding": 16, "hidden": [8], "k": 5},
    "efn": {"phi": [8, 8], "f": [8]},
    "hl_logistic": {},
    "hl_mlp": {"hidden": [8]},
    "image_cnn": {"width": 8},
    "image_resnext": {"blocks": [1, 1, 1, 1], "inner": 32, "width": 8},
    "lgatr": {"blocks": 1, "multivectors": 8, "scalar_channels": 8, "heads": 2},
    "lgatr_slim": {"blocks": 1, "vectors": 8, "scalar_channels": 16, "heads": 2},
    "lorentznet": {"blocks": 2, "hidden": 8},
    "one_cut": {},
    "part": {
        "embed": [16, 16],
        "pair_embed": [8],
        "heads": 2,
        "layers": 1,
        "class_layers": 1,
        "hidden": [8, 6],
    },
    "particlenet": {"blocks": [[7, [8, 8]], [5, [12]]], "hidden": 8},
    "particlenet_lite": {"hidden": 16},
    "pcnn": {"channels": 8, "stages": [[8, 8], [12]], "hidden": 8},
    "pelican": {"blocks": 1, "hidden": 24, "messages": 16},
    "pfn": {"phi": [8, 8], "f": [8], "dropout": 0.1},
    "recnn": {"hidden": 8},
    "transformer": {"embed": [16, 16], "heads": 2, "layers": 1, "class_layers": 1, "hidden": [8]},
}
"""Options of each model on clouds under their old names."""

IMAGES: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [4], "hidden": [6, 5]},
    "dense": {"hidden": 8},
    "group_cnn": {"channels": [4], "hidden": [6], "group": "p4"},
    "group_resnet34": {"blocks": [1, 1, 1, 1], "width": 4},
    "p4cnn": {"channels": 4},
    "pixel_cloud": {"network": "dgcnn", "channels": [8], "embedding": 16, "hidden": [8]},
    "resnet34": {"blocks": [1, 1, 1, 1], "width": 4},
    "rotated": {"channels": [4], "hidden": [6]},
    "rotated_dense": {"hidden": 8},
    "z2cnn": {"channels": 4},
}
"""The same for networks on images."""

OLD_HEADS = {
    "cnn": "head.4",
    "dgcnn": "head.4",
    "efn": "classify",
    "hl_logistic": "classify",
    "image_cnn": "network.17",
    "image_resnext": "network.fc",
    "lgatr": "net.linear_out",
    "lgatr_slim": "net.linear_out.linear_s",
    "lorentznet": "head.3",
    "part": "head.6",
    "particlenet": "head.3",
    "pcnn": "head.3",
    "pelican": "head.2",
    "pfn": "classify",
    "pixel_cloud": "network.head.4",
    "recnn": "classify",
    "rotated": "network.head.2",
    "dense": "head",
    "z2cnn": "head.0",
}
"""Last map of the networks above in checkpoints of the first version."""

BUILT_BY = {
    "group_cnn": "cnn",
    "hl_logistic": "hl_mlp",
    "one_cut": "hl_mlp",
    "p4cnn": "z2cnn",
    "particlenet_lite": "particlenet",
    "rotated_dense": "dense",
    "transformer": "part",
}
"""Models built by the class of another one."""


def build(name: str, seed: int, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    if name in IMAGES:
        return build_network(name, 1, 3, (44, 44), **options).eval()
    return pcloud.build_model(name, 7, 3, **options).eval()


def scores(name: str, model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(2, 1, 44, 44, generator=generator),) if name in IMAGES else make_jets()
    with torch.no_grad():
        return model(*inputs)


def old_state(name: str, model: nn.Module, options: dict[str, Any]) -> dict[str, torch.Tensor]:
    """State dict of a model with the names that it had in the first version."""
    network, prefix = name, ""
    if name in ("pixel_cloud", "rotated"):
        network, prefix = options.get("network", "cnn"), "network."
    renames = WEIGHTS.get(BUILT_BY.get(network, network), {})
    state = {}
    for key, value in model.state_dict().items():
        names = sorted(renames.items(), key=lambda pair: -len(pair[1]))
        for old, new in names:
            if "*" in new:
                key = re.sub(new.replace("*", r"(\d+)"), old.replace("*", r"\1"), key)
            elif f"{key}.".startswith(f"{prefix}{new}."):
                number = "" if "-1" not in old else len(model.get_submodule(f"{prefix}head")) - 1
                key = prefix + old.replace("-1", f"{number}") + key.removeprefix(prefix + new)
                break
        state[key] = value
    return state


@pytest.mark.parametrize("name", [*CLOUDS, *IMAGES])
def test_weights_and_options_of_the_first_version_give_the_same_scores(name: str) -> None:
    old = (CLOUDS | IMAGES)[name]
    options = current_options(name, old)
    model = build(name, 0, **options)
    state = old_state(name, model, options)
    assert (name == "lorentznet") == ("blocks.0.messages.gate.weight" in state)
    if name in OLD_HEADS:
        assert f"{OLD_HEADS[name]}.weight" in state
    other = build(name, 1, **options)
    assert not torch.equal(scores(name, other), scores(name, model))
    other.load_state_dict(state)
    assert torch.equal(scores(name, other), scores(name, model))
    again = build(name, 2, **options)
    again.load_state_dict(model.state_dict())
    assert torch.equal(scores(name, again), scores(name, model))


LATER = {"deepjet", "gn2", "gru", "jet_images", "lloca", "lstm", "particlenet_collections", "rnn"}
"""Models that came after the first version."""


def test_every_model_is_tested() -> None:
    assert {*CLOUDS} == {*pcloud.list_models()} - LATER
    assert set(IMAGES) == set(pcloud.list_models("image"))


@pytest.mark.parametrize("name", list(OPTIONS))
def test_old_options_are_gone_and_new_ones_are_there(name: str) -> None:
    known: set[str] = set()
    for built in (name, BUILT_BY.get(name, name), "resnet34"):
        known |= set(inspect.signature(model_info(built).factory).parameters)
    if OPTIONS[name] is OPTIONS["resnet34"]:
        from pcloud.images import ResNet

        known = set(inspect.signature(ResNet).parameters)
    options = (CLOUDS | IMAGES)[name]
    assert set(current_options(name, options)) <= known
    assert not set(OPTIONS[name]) & known


def test_neighbours_that_differ_between_blocks_are_kept() -> None:
    same = current_options("particlenet", {"blocks": [(7, (8, 8)), (7, (4,))]})
    assert same == {"k": 7, "widths": [[8, 8], [4]]}
    other = current_options("particlenet", {"blocks": [(7, (8, 8)), (5, (4,))], "hidden": 6})
    assert other == {"k": [7, 5], "widths": [[8, 8], [4]], "head_widths": [6]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: pcloud.build_model("pfn", in_features=7, num_classes=4),
        lambda: ParticleNet(7, num_classes=4),
        lambda: particlenet_lite(7, num_classes=4),
        lambda: hl_logistic(7, num_classes=4),
        lambda: build_network("cnn", 1, num_classes=4, size=(28, 28)),
    ],
)
def test_the_old_name_of_the_number_of_outputs_is_deprecated(make: Callable[[], nn.Module]) -> None:
    with pytest.warns(OldNameWarning, match="'num_classes' is now called 'num_outputs'") as caught:
        model = make()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    head = model.get_submodule("head")
    assert head.get_submodule("output").out_features == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: pcloud.build_model("pfn", 7, phi=(8,), head_widths=(4,)),
        lambda: PFN(7, phi=(8,), head_widths=(4,)),
    ],
)
def test_old_options_are_deprecated(make: Callable[[], nn.Module]) -> None:
    with pytest.warns(OldNameWarning, match="option 'phi' is now called 'phi_widths'") as caught:
        model = make()
    assert caught[0].filename == __file__
    assert [p.shape[0] for p in model.parameters() if p.ndim > 1] == [8, 4, 2]


def test_a_value_under_both_names_is_refused() -> None:
    with pytest.warns(OldNameWarning), pytest.raises(TypeError, match="'phi_widths' is given twi"):
        PFN(7, phi=(8,), phi_widths=(8,))
    with pytest.warns(OldNameWarning), pytest.raises(TypeError, match="'num_outputs'"):
        pcloud.build_model("pfn", 7, num_outputs=2, num_classes=2)


def test_a_model_of_somebody_else_keeps_its_own_names() -> None:
    from pcloud.models.old_names import accept_old_names

    class Own(nn.Module):
        def __init__(self, in_features: int, num_classes: int = 2) -> None:
            super().__init__()
            self.linear = nn.Linear(in_features, num_classes)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = accept_old_names("own", Own)(3, num_classes=5)
    assert own.linear.out_features == 5
