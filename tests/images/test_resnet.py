from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.images import load_pretrained, resnet34
from tests.images.made import bars


def torchvision_names() -> list[str]:
    """The keys of torchvision's resnet34, in their order, spelled out."""

    def norm(name):
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{kind}" for kind in kinds]

    names = ["conv1.weight", *norm("bn1")]
    for stage, number in enumerate((3, 4, 6, 3), start=1):
        for block in range(number):
            at = f"layer{stage}.{block}"
            for i in (1, 2):
                names += [f"{at}.conv{i}.weight", *norm(f"{at}.bn{i}")]
            if stage > 1 and block == 0:
                names += [f"{at}.downsample.0.weight", *norm(f"{at}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


def test_names_and_number_of_parameters_are_torchvisions():
    model = resnet34(3, 1000)
    assert list(model.state_dict()) == torchvision_names()
    assert sum(p.numel() for p in model.parameters()) == 21_797_672
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3)


def test_maps_have_the_sizes_of_the_paper():
    model, sizes = resnet34(3, 10, width=4).eval(), []
    for stage in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        hook = lambda module, args, maps: sizes.append(maps.shape[-1])  # noqa: E731
        model.get_submodule(stage).register_forward_hook(hook)
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    assert sizes == [56, 56, 28, 14, 7]


def test_pretrained_weights_load_and_a_changed_head_stays(tmp_path):
    torch.manual_seed(0)
    source, model = resnet34(3, 1000, width=4), resnet34(3, 5, width=4)
    torch.save(source.state_dict(), tmp_path / "resnet34.pth")
    head = model.fc.weight.clone()
    load_pretrained(model, tmp_path / "resnet34.pth")
    assert torch.equal(model.fc.weight, head)
    for name, value in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(model.state_dict()[name], value)
    same = resnet34(3, 1000, width=4)
    load_pretrained(same, tmp_path / "resnet34.pth")
    assert torch.equal(same.fc.weight, source.fc.weight)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(resnet34(3, 5, width=8).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"do not fit, such as bn1\.bias"):
        load_pretrained(resnet34(3, 5, width=4), tmp_path / "wide.pth")
    short = {k: v for k, v in resnet34(3, 5, width=4).state_dict().items() if "layer4" not in k}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(InputError, match="layer4"):
        load_pretrained(resnet34(3, 5, width=4), tmp_path / "short.pth")


def test_training_is_initialised_from_a_file_of_torchvision(tmp_path):
    images, labels = bars(150)
    np.savez(tmp_path / "images.npz", images=np.repeat(images[..., None], 3, -1), labels=labels)
    torch.manual_seed(0)
    source = resnet34(3, 1000, width=4)
    torch.save(source.state_dict(), tmp_path / "resnet34.pth")
    options = {
        "data": str(tmp_path / "images.npz"),
        "model": "resnet34",
        "epochs": 1,
        "lr": 1e-9,
        "max_jets": 40,
    }
    options |= {"model_options": {"width": 4}, "progress": False, "out": str(tmp_path / "run")}
    options |= {"init_from": str(tmp_path / "resnet34.pth")}
    with pytest.raises(InputError, match="--reset-head gives the network a new head"):
        pcloud.train(**options)
    run = pcloud.train(**options, reset_head=True)
    network = run.tagger("last").model
    state = {n.removeprefix("network."): v for n, v in network.state_dict().items()}
    convolution = "layer3.1.conv2.weight"
    (found,) = (v for n, v in state.items() if n.endswith(convolution))
    torch.testing.assert_close(found, source.state_dict()[convolution], atol=1e-6, rtol=0)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        InputError, match=r"no weights of resnet34: conv1.weight is absent; found a"
    ):
        pcloud.train(**options | {"init_from": str(tmp_path / "other.pth")}, overwrite=True)
