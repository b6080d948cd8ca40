"""Official weights; their scores are tested with the features that belong to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.training.inputs import network_inputs


def weaver_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict that weaver-core would have of `model`, a ParticleNet of ours."""
    state = {}
    for key, value in model.state_dict().items():
        name = key.replace("norm.", "bn_fts.", 1) if key.startswith("norm.") else key
        name = name.replace("convs.", "edge_convs.", 1).replace(".norms.", ".bns.")
        name = name.replace("shortcut.0.", "sc.").replace("shortcut.1.", "sc_bn.")
        name = name.replace("head.0.", "fc.0.0.").replace("head.3.", "fc.1.")
        name = name.replace("edge.weight", "convs.0.weight")
        if ".linears." in name:
            head, _, tail = name.partition(".linears.")
            name = f"{head}.convs.{int(tail[0]) + 1}.weight"
        trailing = (1, 1) if ".convs." in name else (1,) if ".sc.w" in name else ()
        state[f"mod.{name}"] = value.reshape((*value.shape, *trailing))
    return state


def test_weights_return_from_the_names_of_weaver(tmp_path):
    model = pcloud.build_model("particlenet_lite", in_features=13, num_classes=5)
    torch.save(weaver_state(model), tmp_path / "weaver.pt")
    loaded = pcloud.load_official("particlenet_lite", tmp_path / "weaver.pt")
    assert not loaded.training
    assert loaded.neighbors == [7, 7]
    for (name, ours), theirs in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_files_that_hold_no_such_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(FileNotFoundError):
        pcloud.load_official("particlenet", path)
    path.write_bytes(b"no zip file")
    with pytest.raises(InputError, match="no file of PyTorch weights"):
        pcloud.load_official("particlenet", path)
    torch.save([1, 2], path)
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


@pytest.mark.rounding
@pytest.mark.parametrize("features", ["kin", "full"])
@torch.no_grad()
def test_jetclass_files_give_the_inputs_and_scores_of_the_authors(reference_data, features):
    """Inputs and logits by weaver-core, with the authors' configuration, of the same file."""
    official = np.load(reference_data / "jetclass2_example_100_official.npz")
    jets = pcloud.read_jets(reference_data / "jetclass2_example_100.root")
    (batch,) = pcloud.JetLoader(pcloud.JetDataset(jets, features), len(jets))
    np.testing.assert_allclose(batch.x, official[f"x_{features}"], atol=1e-5)
    weights = reference_data / f"particlenet_jetclass_{features}_official.pt"
    logits = pcloud.load_official("particlenet", weights)(*network_inputs(batch))
    np.testing.assert_allclose(logits, official[f"logits_{features}"], rtol=1e-4, atol=1e-4)


def test_code_in_a_weights_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"bomb": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="no file of PyTorch weights"):
        pcloud.load_official("particlenet", tmp_path / "bomb.pt")
