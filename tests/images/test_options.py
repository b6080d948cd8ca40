"""Images from the command line: bundled digits, positions, rotations, and images of jets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.images import JetImages, build_network, bundled_digits
from pcloud.nn import RaggedLayout
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits, load_training_data
from tests.models.contract import make_jets


def test_bundled_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    parts = [bundled_digits(split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [1400, 397]
    stored = load_digits()
    found = sorted(np.concatenate([part.labels for part in parts]))
    assert found == sorted(stored.target)
    means = np.concatenate([part.images.double().mean((1, 2, 3)) for part in parts])
    expected = stored.images.mean((1, 2)) * 255 / 16 * (24 / 28) ** 2
    np.testing.assert_allclose(np.sort(means), np.sort(expected), atol=0.3)
    with pytest.raises(InputError, match="size must be at least 5"):
        bundled_digits(size=4)


def splits(**options):
    config = TrainConfig(data="digits", model="cnn", out="x", **options)
    return load_splits(config, "train", "val", "test")


def test_digits_are_placed_on_a_canvas_and_each_split_at_other_positions():
    upright, placed = splits(), splits(canvas=50)
    for before, after in zip(upright, placed, strict=True):
        assert after.images.shape[1:] == (1, 50, 50)
        inside = before.images.double().sum() if len(before) == len(after) else None
        assert inside is None or after.images.double().sum() == inside
    assert sum(map(len, placed)) == sum(map(len, upright)) == 1797
    again = splits(canvas=50)
    assert all(torch.equal(a.images, b.images) for a, b in zip(placed, again, strict=True))
    first = placed[2].images.flatten(1).double().argmax(1)
    assert len(np.unique(first.numpy())) > 200


def test_quarter_turns_are_in_equal_numbers(monkeypatch):
    (_, _, upright), (_, _, turned) = splits(), splits(turned="quarter")
    same = [
        (torch.rot90(upright.images, turn, (2, 3)) == turned.images).flatten(1).all(1)
        for turn in range(4)
    ]
    assert torch.stack(same).any(0).all()
    numbers = torch.stack(same).sum(1)
    assert numbers.min() >= 397 // 4 - 10


def test_options_of_images_are_refused_for_jets_and_names_of_jets_for_images():
    with pytest.raises(InputError, match="canvas is for images, and the network takes jets"):
        load_training_data(TrainConfig(data="simulated", model="pfn", canvas=50, out="x"))
    with pytest.raises(InputError, match="as_images makes images of jets"):
        load_training_data(TrainConfig(data="simulated", model="cnn", out="x"))
    with pytest.raises(InputError, match="as_images needs a model on images, such as cnn"):
        TrainConfig(data="simulated", model="pfn", as_images=True, out="x")
    with pytest.raises(InputError, match="images of 28x28 do not fit into 20x20"):
        splits(canvas=20)


@pytest.mark.usefixtures("small_sample")
def test_any_network_on_images_takes_jets(tmp_path):
    quick = ["--epochs", "1", "--max-jets", "100", "--max-val-jets", "50", "--quiet"]
    narrow = ["--model-options.widths", "[4, 4]", "--model-options.group", "p4"]
    run = str(tmp_path / "run")
    what = ["--data", "simulated", "--as-images", "--model", "group_cnn", "--out", run]
    main(["train", *what, *quick, *narrow])
    config = pcloud.Run(run).config
    assert (config.model, config.model_options["network"]) == ("jet_images", "group_cnn")
    assert not config.as_images
    assert pcloud.Run(run).predict(pcloud.load_dataset("simulated", "test")[:3]).shape == (3, 2)


@torch.no_grad()
def test_jets_are_scored_by_their_images():
    model = pcloud.build_model("jet_images", 7, 3, network="dense", pixels=21).eval()
    x, p4, batch = make_jets()
    images = JetImages(pixels=21)(x, p4, RaggedLayout.from_batch(batch)) * 21
    torch.testing.assert_close(model(x, p4, batch), model.network(images))


@pytest.mark.parametrize("angles", ["any", "quarter", "none"])
def test_images_of_a_training_are_turned_and_shifted(angles):
    torch.manual_seed(0)
    size = (9, 9)
    model = build_network("rotated", 1, 2, size, network="dense", angles=angles, shift=2).train()
    images = torch.zeros(400, 1, *size)
    images[:, :, 4, 4] = 1.0
    images[:, :, 4, 5] = 0.5
    found = model._augment(images)
    centres = found.flatten(1).argmax(1)
    assert len(centres.unique()) == 25  # five rows and five columns
    if angles != "any":
        torch.testing.assert_close(found.sum((1, 2, 3)), images.sum((1, 2, 3)))
        row, column = centres // 9, centres % 9
        beside = torch.stack([(found[range(400), 0, row, column + s] == 0.5) for s in (-1, 1)])
        assert (beside.float().mean(1) > 0.15).tolist() == [angles == "quarter", True]
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.network(images))


def test_unknown_augmentations_are_refused():
    with pytest.raises(InputError, match="no set of angles named 'half'"):
        build_network("rotated", 1, 2, (9, 9), network="dense", angles="half")
    with pytest.raises(InputError, match="shift must be from 0 to 8 pixels, got 9"):
        build_network("rotated", 1, 2, (9, 9), network="dense", shift=9)
