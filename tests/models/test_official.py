"""Official weights; their scores are tested with the features that belong to them."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnknownNameError


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


def test_code_in_a_weights_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"bomb": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="no file of PyTorch weights"):
        pcloud.load_official("particlenet", tmp_path / "bomb.pt")
