"""Layers of a model, as ``pcloud models NAME`` prints them."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.models.summary import model_summary


def test_parameters_add_up_and_shapes_are_those_of_the_layers():
    header, *rows, total = model_summary("mlp")
    assert header == ["layer", "type", "output", "parameters", "receptive field"]
    numbers = [int(row[3].replace(",", "")) for row in rows if row[3]]
    model = pcloud.build_model("mlp", 7)
    assert (
        sum(numbers) == sum(p.numel() for p in model.parameters()) == int(total[3].replace(",", ""))
    )
    assert rows[0][1:3] == ["Linear", "1 x 100"]
    assert total[1] == "0.0218 MFLOP"  # 2 (7 100 + 100 100 + 100 2)


def test_the_receptive_field_is_that_of_the_gradient():
    rows = model_summary("cnn")[1:-1]
    fields = [row[4] for row in rows if row[4]]
    assert fields == ["5", "6", "14", "16"]
    model = pcloud.build_model("cnn", 1, 2, size=[28, 28]).eval()
    images = torch.randn(1, 1, 28, 28, requires_grad=True)
    maps = model.features(images)
    maps[0, :, 1, 1].sum().backward()
    seen = images.grad[0, 0].abs().sum(0).nonzero()
    assert seen.max() - seen.min() + 1 <= 16


@pytest.mark.parametrize("name", ["particlenet_lite", "lstm", "series_cnn", "logistic", "resnet34"])
def test_every_kind_of_model_is_listed(name):
    assert len(model_summary(name)) > 2


def test_the_command_lists_layers_and_refuses_what_it_cannot(capsys):
    assert main(["models", "dense", "--size", "8", "8"]) == 0
    assert "Conv2d" in capsys.readouterr().out
    assert main(["models", "denze"]) == 2
    assert "did you mean 'dense'" in capsys.readouterr().err
    with pytest.raises(InputError, match="size takes 2 positive numbers"):
        model_summary("cnn", [28])
