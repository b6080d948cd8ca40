"""The learning-rate range test, and the norms of layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.tables import Table
from pcloud.training import find_learning_rate
from pcloud.training.layer_norms import LayerNorms, layer_norms_figure
from pcloud.training.learning_rates import RangeTest

OPTIONS = {"data": "moons", "model": "mlp", "progress": False}


def test_the_proposal_is_where_the_loss_of_the_network_falls_fastest(tmp_path, capsys):
    arguments = ["train", "--data", "moons", "--model", "mlp", "--out", str(tmp_path / "a")]
    assert main([*arguments, "--find-lr", "-q"]) == 0
    found = RangeTest.read(tmp_path / "a")
    assert f"--lr {found.proposal:g}" in capsys.readouterr().out
    assert 1e-4 < found.proposal < found.fastest < 1
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["figures", RangeTest.file]
    smoothed = found.smoothed
    slopes = np.diff(smoothed)[: smoothed.argmin()]
    assert found.rates[slopes.argmin()] == pytest.approx(found.proposal, rel=0.2)


def test_a_proposal_is_found_again_and_leaves_a_run_as_it_is(tmp_path):
    run = pcloud.train(out=tmp_path, epochs=1, **OPTIONS)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    first, second = (find_learning_rate(out=tmp_path, lr=lr, **OPTIONS) for lr in (1e-3, 0.5))
    assert first == second  # the configured rate does not matter
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(run.history) == 1


def test_no_rate_is_proposed_for_labels_by_chance(tmp_path):
    rng = np.random.default_rng(0)
    noise = Table(columns={"a": rng.normal(size=4000)}, label=rng.integers(0, 2, 4000))
    found = find_learning_rate(**OPTIONS | {"data": noise, "model": "logistic"}, out=tmp_path)
    assert math.isnan(found.proposal)
    assert "falls at no learning rate" in found.summary()


def test_what_has_no_learning_rate_to_find_is_refused(tmp_path):
    with pytest.raises(InputError, match="lbfgs chooses"):
        find_learning_rate(optimizer="lbfgs", out=tmp_path, **OPTIONS)
    with pytest.raises(InputError, match="without a teacher"):
        find_learning_rate(teacher="runs/a", out=tmp_path, **OPTIONS)


def test_norms_of_layers_are_those_of_the_first_batch(tmp_path):
    options = {"batch_size": "full", "layer_norms": True, "seed": 3}
    pcloud.train(out=tmp_path, epochs=2, **OPTIONS, **options)
    norms = LayerNorms.read(tmp_path)
    assert list(norms.gradients) == [1, 2]
    layers = list(norms.gradients[1])
    assert list(norms.activations[1]) == layers
    assert layers[-1] == "head.output"
    # by hand: the same initial network on all training events
    twin = pcloud.train(
        out=tmp_path / "b", epochs=1, lr=1e-20, **OPTIONS, **options | {"layer_norms": False}
    )
    from pcloud.training.data import load_training_data

    jets = load_training_data(twin.config)
    (batch,) = jets.modality.loader(jets.train, len(jets.train))
    model = twin.tagger("last").model.train()
    outputs = model(*jets.modality.arguments(batch))
    torch.nn.functional.cross_entropy(outputs, batch.y).backward()
    last = model.head.output
    gradient = math.hypot(float(last.weight.grad.norm()), float(last.bias.grad.norm()))
    assert norms.gradients[1]["head.output"] == pytest.approx(gradient, rel=1e-3)
    rms = float(outputs.detach().square().mean().sqrt())
    assert norms.activations[1]["head.output"] == pytest.approx(rms, rel=1e-3)
    figure = layer_norms_figure(norms)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == layers
