"""Official weights; their scores are tested with the features that belong to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import batch_arguments
from pcloud.errors import InputError, UnknownNameError
from pcloud.io.known_schemas import SCHEMAS


def weaver_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict that weaver-core would have of `model`, a ParticleNet of ours."""
    state = {}
    for key, value in model.state_dict().items():
        name = key.replace("norm.", "bn_fts.", 1) if key.startswith("norm.") else key
        name = name.replace("convs.", "edge_convs.", 1).replace(".norms.", ".bns.")
        name = name.replace("shortcut.0.", "sc.").replace("shortcut.1.", "sc_bn.")
        name = name.replace("head.0.", "fc.0.0.").replace("head.output.", "fc.1.")
        name = name.replace("edge.weight", "convs.0.weight")
        if ".linears." in name:
            head, _, tail = name.partition(".linears.")
            name = f"{head}.convs.{int(tail[0]) + 1}.weight"
        trailing = (1, 1) if ".convs." in name else (1,) if ".sc.w" in name else ()
        state[f"mod.{name}"] = value.reshape((*value.shape, *trailing))
    return state


def test_weights_return_from_the_names_of_weaver(tmp_path):
    model = pcloud.build_model("particlenet_lite", in_features=13, num_outputs=5)
    torch.save(weaver_state(model), tmp_path / "weaver.pt")
    loaded = pcloud.load_official("particlenet_lite", tmp_path / "weaver.pt")
    assert not loaded.training
    assert loaded.k == [7, 7]
    for (name, ours), theirs in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def lorentznet_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict that LorentzNet-release would have of `model`, a LorentzNet of ours."""
    names = {
        "embed.": "embedding.",
        "head.0.": "graph_dec.0.",
        "head.output.": "graph_dec.3.",
        "blocks.": "LGEBs.",
        "phi_e.linear.": "phi_e.0.",
        "phi_e.norm.": "phi_e.1.",
        "messages.linear.": "phi_e.3.",
        "messages.phi_m.": "phi_m.0.",
        "messages.phi_x.": "phi_x.",
    }
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    return state


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name.removeprefix("mod."): value for name, value in state.items()}


def official_state(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    if name == "lorentznet":
        model = pcloud.build_model(name, 0, mass="stored", limit=100.0, width=8, num_layers=2)
        return model, lorentznet_state(model)
    model = pcloud.build_model(name, 7)
    return model, weaver_state(model)


@pytest.mark.parametrize("prefix", ["", "module.", "mod.", "_orig_mod.", "_orig_mod.module.mod."])
@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("model",), ("model", "state_dict")])
@pytest.mark.parametrize("name", ["lorentznet", "particlenet_lite"])
def test_weights_are_found_behind_prefixes_and_in_checkpoints(tmp_path, name, prefix, nesting):
    model, state = official_state(name)
    content = prefixed(state, prefix)
    for key in reversed(nesting):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "weights.pt")
    loaded = pcloud.load_official(name, tmp_path / "weights.pt").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in model.state_dict().items())


def test_weights_of_the_particle_transformer_have_prefixes_too(tmp_path, reference_data):
    weights = torch.load(reference_data / "part_small_weaver.pt", weights_only=True)
    weights = weights.get("state_dict", weights)
    torch.save({"model": prefixed(weights, "module.")}, tmp_path / "weights.pt")
    expected = pcloud.load_official("part", reference_data / "part_small_weaver.pt").state_dict()
    loaded = pcloud.load_official("part", tmp_path / "weights.pt").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in expected.items())


def test_a_prefix_of_only_some_names_belongs_to_them(tmp_path):
    _, state = official_state("lorentznet")
    torch.save(state | {"module.extra": torch.ones(1)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"unknown \['module.extra'\]"):
        pcloud.load_official("lorentznet", tmp_path / "weights.pt")


def test_errors_name_what_was_found(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"net": {"weight": torch.ones(1)}, "epoch": 3}, path)
    with pytest.raises(InputError, match="no state dict, but dict with net, epoch"):
        pcloud.load_official("lorentznet", path)
    torch.save({"conv.weight": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"is absent; found conv\.weight"):
        pcloud.load_official("lorentznet", path)


def test_files_that_hold_no_such_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(FileNotFoundError):
        pcloud.load_official("particlenet", path)
    path.write_bytes(b"no zip file")
    with pytest.raises(InputError, match="cannot read the file of PyTorch weights"):
        pcloud.load_official("particlenet", path)
    torch.save([1, 2], path)
    whole = path.read_bytes()
    for cut in range(10, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot read the file of PyTorch weights"):
            pcloud.load_official("particlenet", path)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="no state dict, but list"):
        pcloud.load_official("particlenet", path)
    torch.save({"linear.weight": torch.ones(2, 2)}, path)
    with pytest.raises(InputError, match="no weights of particlenet"):
        pcloud.load_official("particlenet", path)
    state = weaver_state(pcloud.build_model("particlenet", in_features=7))
    torch.save(state | {"mod.extra": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"unknown \['extra'\]"):
        pcloud.load_official("particlenet", path)
    with pytest.raises(UnknownNameError, match="did you mean 'particlenet'"):
        pcloud.load_official("particle_net", path)


@pytest.fixture(scope="module")
def jetclass2_batches(reference_data):
    """The jets of the file, in one batch for each feature set."""
    jets = pcloud.read_jets(reference_data / "jetclass2_example_100.root")
    return {
        features: next(iter(pcloud.JetLoader(pcloud.JetDataset(jets, features), len(jets))))
        for features in ("kin", "kinpid", "full")
    }


@pytest.mark.rounding
@pytest.mark.parametrize("features", ["kin", "kinpid", "full"])
def test_jetclass_files_give_the_inputs_of_the_authors(reference_data, jetclass2_batches, features):
    """Inputs by weaver-core, with the authors' configuration, of the same file."""
    official = np.load(reference_data / "jetclass2_example_100_official.npz")
    np.testing.assert_allclose(
        jetclass2_batches[features].x, official[f"x_{features}"], rtol=0, atol=1e-5
    )


@pytest.mark.rounding
@pytest.mark.parametrize("features", ["kin", "full"])
@torch.no_grad()
def test_jetclass_files_give_the_scores_of_the_authors(reference_data, jetclass2_batches, features):
    """Logits by weaver-core, with the authors' configuration and weights, of the same file."""
    official = np.load(reference_data / "jetclass2_example_100_official.npz")
    weights = reference_data / f"particlenet_jetclass_{features}_official.pt"
    model = pcloud.load_official("particlenet", weights)
    logits = model(*batch_arguments(jetclass2_batches[features]))
    np.testing.assert_allclose(logits, official[f"logits_{features}"], rtol=1e-4, atol=1e-4)


@pytest.mark.rounding
@torch.no_grad()
def test_top_jets_of_jetclass_have_the_scores_of_the_network_with_17_inputs(reference_data):
    stored = np.load(reference_data / "jetclass_full_tbqq_100.npz")
    counts, x, p4 = (torch.from_numpy(stored[key]) for key in ("counts", "x_full", "p4"))
    batch = torch.repeat_interleave(torch.arange(len(counts)), counts)
    weights = reference_data / "particlenet_jetclass_full_official.pt"
    model = pcloud.load_official("particlenet", weights)
    assert sum(p.numel() for p in model.parameters()) == 370_156
    logits = model(x, p4, batch)
    np.testing.assert_allclose(logits, stored["logits_particlenet_full"], rtol=0, atol=1e-4)
    assert (logits.argmax(1) == SCHEMAS["jetclass"].classes.index("Tbqq")).sum() == 94


def test_code_in_a_weights_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"bomb": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="cannot read the file of PyTorch weights"):
        pcloud.load_official("particlenet", tmp_path / "bomb.pt")
