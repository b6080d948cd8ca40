"""Particle Transformer against weaver-core, with the same weights."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pcloud
from pcloud.errors import InputError
from pcloud.features import feature_set
from pcloud.nn import RaggedLayout
from pcloud.nn.attention.rms_norm import RMSNorm
from pcloud.nn.stochastic_depth import StochasticDepth
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding


@pytest.mark.parametrize(
    ("name", "in_features", "num_outputs", "expected"),
    [
        ("part", 7, 2, 2_141_134),
        ("part", 17, 10, 2_143_486),
        ("transformer", 7, 2, 2_131_566),
    ],
)
def test_parameters_are_the_published_number(name, in_features, num_outputs, expected):
    model = pcloud.build_model(name, in_features=in_features, num_outputs=num_outputs)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.fixture(scope="module")
def reference(reference_data):
    """A small network of weaver-core: ``x, p4, batch, logits`` of jets of 1 to 114 particles."""
    data = np.load(reference_data / "part_small_weaver.npz")
    counts = torch.from_numpy(data["counts"])
    batch = torch.repeat_interleave(torch.arange(len(counts)), counts)
    x, p4, logits = (torch.from_numpy(data[key]) for key in ("x", "p4", "logits"))
    return x, p4, batch, logits


@pytest.fixture(scope="module")
def small(reference_data):
    return pcloud.load_official("part", reference_data / "part_small_weaver.pt")


def assert_same_logits(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to rounding: 1e-6 to 8e-6 of the largest logit, depending on the processor."""
    tolerance = 3e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_weights_of_weaver_give_its_logits(small, reference):
    *inputs, expected = reference
    assert_same_logits(small(*inputs), expected)
    with torch.no_grad():
        assert_same_logits(small(*inputs), expected)


def test_the_inputs_of_weaver_are_the_kin_set(small, reference):
    x, p4, batch, expected = reference
    ours = feature_set("kin")(p4, batch)
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(small(ours, p4, batch), expected, rtol=0, atol=1e-4)


def test_pair_kinematics_stay_in_single_precision(small, reference):
    x, p4, batch, expected = reference
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        coarse = small(x, p4, batch)
    assert (coarse - expected).abs().max() < 0.1 * expected.std()


def test_sizes_are_read_from_the_weights(small):
    assert len(small.blocks) == 3
    assert len(small.class_blocks) == 2
    assert small.blocks[0].attention.heads == 4
    assert [norm.num_features for norm in small.pair_bias.embed.norms] == [4, 16, 16, 16, 4]


def test_weights_of_older_versions_have_other_names(reference_data, reference, tmp_path):
    state = torch.load(reference_data / "part_small_weaver.pt", weights_only=True)["state_dict"]
    old = {f"mod.{k.replace('attn.in_proj.', 'attn.in_proj_')}": v for k, v in state.items()}
    torch.save(old, tmp_path / "old.pt")
    *inputs, expected = reference
    logits = pcloud.load_official("part", tmp_path / "old.pt")(*inputs)
    assert_same_logits(logits, expected)


def test_weights_of_other_networks_are_refused(reference_data):
    with pytest.raises(InputError, match=r"no weights of part: .* is absent"):
        pcloud.load_official("part", reference_data / "lorentznet_top_official.pt")


def weaver_transformer(**options) -> nn.Module:
    module = pytest.importorskip(
        "weaver.nn.model.ParticleTransformer", reason="extra 'bench' is not installed"
    )
    paper = {"pair_input_dim": 4, "use_pre_activation_pair": False, "trim": False}
    return module.ParticleTransformer(7, 2, **paper, **options)


def padded(x: torch.Tensor, p4: torch.Tensor, layout: RaggedLayout, size: int):
    """The inputs of weaver-core: features, (px, py, pz, E) and mask, each (B, ., size)."""
    dense = torch.zeros(layout.num_jets, size, 7 + 4 + 1, dtype=x.dtype)
    slot = torch.arange(layout.num_particles) - layout.ptr[layout.batch]
    one = torch.ones_like(x[:, :1])
    dense[layout.batch, slot] = torch.cat([x, p4[:, [1, 2, 3, 0]].to(x), one], 1)
    return dense.mT.split([7, 4, 1], dim=1)


def randomized(model: nn.Module) -> nn.Module:
    """Norms and scales as far from their start as those of a trained network."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            mean = 1.0 if name.endswith(("weight", "c_attn", "w_resid")) else 0.0
            nn.init.normal_(parameter, mean, 0.2)
    return model


@torch.no_grad()
def test_the_full_network_gives_the_logits_of_weaver(tmp_path):
    torch.manual_seed(0)
    official = randomized(weaver_transformer(fc_params=[(64, 0.1)]))
    x, p4, batch = make_jets([1, 2, 3, 128, 40, 64, 100, 17])
    inputs = padded(x, p4, RaggedLayout.from_batch(batch), 128)
    official.train()
    for _ in range(5):
        official(*inputs)
    torch.save(official.state_dict(), tmp_path / "full.pt")
    ours = pcloud.load_official("part", tmp_path / "full.pt")
    expected = official.eval()(*inputs)
    assert expected.std(0).min() > 0.05
    torch.testing.assert_close(ours(x, p4, batch), expected, rtol=0, atol=1e-4)


def test_training_has_the_gradients_and_pair_statistics_of_weaver(tmp_path):
    torch.manual_seed(0)
    none = {"dropout": 0, "attn_dropout": 0, "activation_dropout": 0}
    small = {"embed_dims": (16, 32, 16), "pair_embed_dims": (8, 8), "num_heads": 4}
    official = weaver_transformer(**small, num_layers=2, block_params=none)
    official = randomized(official).double()
    torch.save(official.state_dict(), tmp_path / "weights.pt")
    ours = pcloud.load_official("part", tmp_path / "weights.pt", dropout=0.0).double().train()
    official.train()
    # the normalisation of the inputs counts padding there, and real particles alone here
    official.embed.input_bn.eval()
    ours.embed[0].eval()

    x, p4, batch = make_jets([1, 2, 20, 9])
    x, p4, y = x.double(), p4.double(), torch.tensor([0, 1, 0, 1])
    theirs = official(*padded(x, p4, RaggedLayout.from_batch(batch), 20))
    nn.functional.cross_entropy(theirs, y).backward()
    nn.functional.cross_entropy(ours(x, p4, batch), y).backward()

    state = official.state_dict() | {k: v.grad for k, v in official.named_parameters()}
    torch.save(state, tmp_path / "gradients.pt")
    expected = pcloud.load_official("part", tmp_path / "gradients.pt").double().state_dict()
    found = ours.state_dict() | {k: v.grad for k, v in ours.named_parameters()}
    for name, value in expected.items():
        torch.testing.assert_close(found[name].to(value), value, rtol=1e-4, atol=1e-7, msg=name)


VERSIONS = np.load(Path(__file__).with_name("part_versions.npz"))
"""Random networks of weaver-core and their logits, by `make_part_versions.py` beside this file."""

EXPECTED_OPTIONS = {
    "version_1_gated": (nn.LayerNorm, nn.LayerNorm, 3),
    "version_2": (nn.LayerNorm, type(None), None),
    "version_2_gated": (nn.LayerNorm, nn.LayerNorm, 3),
    "version_3": (RMSNorm, type(None), None),
    "version_3.5": (RMSNorm, RMSNorm, 12),
}
"""Norm, norm of the queries and number of gates."""


@pytest.fixture(scope="module", params=EXPECTED_OPTIONS)
def version(request, tmp_path_factory):
    """Name of a network of weaver-core, and ours with its weights."""
    prefix = f"{request.param}/state/"
    state = {
        key.removeprefix(prefix): torch.from_numpy(VERSIONS[key])
        for key in VERSIONS
        if key.startswith(prefix)
    }
    path = tmp_path_factory.mktemp("versions") / "weights.pt"
    torch.save(state, path)
    return request.param, pcloud.load_official("part", path)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@torch.no_grad()
def test_weights_of_later_versions_give_the_logits_of_weaver(version, dtype, tolerance):
    name, model = version
    model = copy.deepcopy(model).to(dtype)
    expected = torch.from_numpy(VERSIONS[f"{name}/{dtype}"])
    assert expected.std(0).min() > 0.05
    x, p4 = (torch.from_numpy(VERSIONS[key]).to(dtype) for key in ("x", "p4"))
    found = model(x, p4, torch.from_numpy(VERSIONS["batch"]))
    tolerance *= expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_options_of_later_versions_are_read_from_the_weights(version):
    name, model = version
    block = model.blocks[0]
    gates = block.attention.gate and block.attention.gate.out_features
    found = type(block.norm), type(block.attention.query_norm), gates
    assert found == EXPECTED_OPTIONS[name]
    assert model.num_heads == 3


def test_weights_without_class_blocks_are_refused(tmp_path):
    prefix = "version_3.5/state/"
    keys = [key for key in VERSIONS if key.startswith(prefix) and "cls_blocks" not in key]
    state = {key.removeprefix(prefix): torch.from_numpy(VERSIONS[key]) for key in keys}
    torch.save(state, tmp_path / "global.pt")
    with pytest.raises(InputError, match="no class blocks: networks with a global token"):
        pcloud.load_official("part", tmp_path / "global.pt")


def test_the_gradients_of_later_versions_reach_every_parameter(version):
    _, model = version
    model.train()
    logits = model(*make_jets([20] * 8))
    nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad()
    model.eval()
    assert without == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": 4}, "version of the Particle Transformer must be 1, 2 or 3, got 4"),
        ({"version": 3, "gate": "channel"}, "no gate named 'channel'; did you mean 'channels'"),
        ({"drop_path": 0.1}, "drop_path needs version 2 or 3"),
        ({"version": 2, "drop_path": 1.0}, r"must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_versions_gates_and_depths_are_an_error_of_one_line(options, said):
    with pytest.raises(InputError, match=said):
        pcloud.build_model("part", 7, **options)


@pytest.mark.parametrize(("version", "expected"), [(1, 0.1), (2, 0.1), (3, 0.0)])
def test_version_3_has_stochastic_depth_in_the_place_of_dropout(version, expected):
    model = pcloud.build_model("part", 7, version=version, head_widths=(8,), **SMALL)
    assert {m.p for m in model.blocks.modules() if isinstance(m, nn.Dropout)} == {expected}
    assert [m.p for m in model.head if isinstance(m, nn.Dropout)] == [expected]
    depths = [m.dropout for m in model.modules() if isinstance(m, StochasticDepth)]
    assert depths == [0.1 if version == 3 else 0.0] * (4 if version > 1 else 0)


SMALL = {"embed_widths": (16, 16), "pair_widths": (8,), "num_layers": 2}


@torch.no_grad()
def test_an_empty_jet_is_scored_by_the_class_token():
    model = pcloud.build_model("part", in_features=7, **SMALL).eval()
    empty = torch.empty(0, 7), torch.empty(0, 4), torch.empty(0, dtype=torch.long)
    alone = model(*empty, RaggedLayout.from_ptr(torch.tensor([0, 0])))
    x, p4, batch = make_jets([3, 5])
    among = model(x, p4, 2 * batch)
    torch.testing.assert_close(alone[0], among[1])


@torch.no_grad()
def test_the_plain_transformer_does_not_see_momenta():
    x, p4, batch = make_jets()
    for name, options in (("part", SMALL), ("transformer", SMALL | {"pair_widths": None})):
        model = pcloud.build_model(name, in_features=7, **options).eval()
        same = torch.allclose(model(x, 2 * p4, batch), model(x, p4, batch), atol=1e-5)
        assert same == (name == "transformer")


def test_hidden_layers_stand_before_the_last_map():
    model = pcloud.build_model("part", in_features=7, num_outputs=3, head_widths=(32, 8), **SMALL)
    shapes = [tuple(m.weight.shape) for m in model.head if isinstance(m, nn.Linear)]
    assert shapes == [(32, 16), (8, 32), (3, 8)]
    assert model(*make_jets()).shape == (8, 3)
