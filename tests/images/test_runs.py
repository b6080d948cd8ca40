"""Images through the same commands as jets."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.images import (
    ImageFormat,
    ImageSet,
    RotationAverage,
    normalise,
    pixel_cloud,
    read_images,
)
from pcloud.images.modality import stratified_parts
from pcloud.interpret.attribution_images import attribute_images
from pcloud.interpret.cnn_figures import class_activations, filter_figure
from pcloud.report import write_report
from pcloud.studies.attribution import read_attribution
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits, load_training_data
from tests.images.made import bars


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "bars.npz"
    images, labels = bars(300)
    np.savez(path, images=images, labels=labels, classes=["lying", "upright"])
    return path


@pytest.fixture(scope="module")
def run(file):
    options = {"epochs": 6, "batch_size": 32, "lr": 5e-3, "seed": 1, "test_fraction": 0.3}
    return pcloud.train(data=file, model="cnn", out=file.parent / "run", progress=False, **options)


def test_splits_have_the_same_mix_of_classes_and_share_no_image():
    labels = np.repeat([0, 1, 2], [700, 200, 17])
    parts = stratified_parts(labels, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=3)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(917))
    for name, fraction in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        counts = np.bincount(labels[parts[name]], minlength=3)
        assert abs(counts - fraction * np.array([700, 200, 17])).max() <= 1
    other = stratified_parts(labels, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=4)
    assert not np.array_equal(parts["test"], other["test"])


def test_a_part_of_the_file_is_the_split_of_its_name(tmp_path):
    images, labels = bars(60)
    parts = {"x_train": images[:40], "y_train": labels[:40], "x_test": images[40:]}
    np.savez(tmp_path / "a.npz", **parts, y_test=labels[40:])
    config = TrainConfig(data=str(tmp_path / "a.npz"), model="cnn", out="x", val_fraction=0.25)
    train, val, test = load_splits(config, "train", "val", "test")
    assert len(train) + len(val) == 40
    assert 0 < len(val) < 20
    assert len({image.tobytes() for part in (train, val) for image in part.images.numpy()}) == 40
    np.testing.assert_array_equal(test.images[:, 0], images[40:])


def test_too_few_images_are_refused_before_a_training(tmp_path):
    images, labels = bars(6)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    config = TrainConfig(data=str(tmp_path / "a.npz"), model="cnn", out="x")
    with pytest.raises(InputError, match="6 images are too few to take test images from them"):
        load_training_data(config)


def test_a_network_learns_images(run, file):
    assert run.finished
    assert run.classes == ["lying", "upright"]
    assert run.history[-1]["val_acc"] > 0.9
    assert run.history[-1]["train_loss"] < 0.5 * run.history[0]["train_loss"]


def test_scores_come_from_the_images_alone(run, file):
    sample = read_images(file)
    scores = run.predict(sample[:20])
    assert scores.shape == (20, 2)
    np.testing.assert_allclose(run.predict(ImageSet(sample.images[7:9])), scores[7:9], rtol=1e-5)


def test_the_model_of_a_run_takes_stored_images_and_gives_the_logits_of_predict(run, file):
    images = read_images(file).images[:20]
    expected = run.logits(ImageSet(images))
    model = run.model()
    assert images.dtype == torch.uint8
    for given in (images, images.float(), images.double()):
        with torch.no_grad():
            np.testing.assert_allclose(model(given).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 1e-2
    assert run.network() is model.network


def test_functions_on_networks_and_images_take_stored_images(run, file):
    sample = read_images(file)[:12]
    images, labels = sample.images, sample.labels.numpy()
    found = class_activations(run.model(), images, labels)
    expected = class_activations(run.network(), run.feature_set(images), labels)
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5)
    assert filter_figure(run.model(), list(found)[1]).axes
    with torch.no_grad():
        averaged = [RotationAverage(run.model(), 8)(given) for given in (images, images.float())]
    torch.testing.assert_close(*averaged)
    hidden = attribute_images(run.model(), images[:2], "occlusion", window=6)
    np.testing.assert_allclose(
        hidden.values,
        attribute_images(run.network(), run.feature_set(images[:2]), "occlusion", window=6).values,
        rtol=1e-4,
        atol=1e-5,
    )
    for given, floating in zip(
        pixel_cloud(images, 100), pixel_cloud(images.float(), 100), strict=True
    ):
        torch.testing.assert_close(given, floating)
    torch.testing.assert_close(normalise(images), normalise(images.float()))
    for use in (class_activations, lambda model, images, _: attribute_images(model, images)):
        with pytest.raises(InputError, match="model\\(\\) of a run"):
            use(run.network(), images, labels)


@pytest.mark.usefixtures("undrawn")
def test_evaluation_prediction_and_report_are_commands(run, file, capsys):
    assert main(["evaluate", str(run.path), "--bootstrap", "0"]) == 0
    assert main(["evaluate", str(run.path), "--split", "train", "--bootstrap", "0"]) == 0
    assert "accuracy" in capsys.readouterr().out
    scores = file.parent / "scores.parquet"
    assert main(["predict", str(run.path), str(file), "-o", str(scores), "--quiet"]) == 0
    table = pq.read_table(scores)
    assert table.column_names == ["label", "score_lying", "score_upright"]
    predicted = (table["score_upright"].to_numpy() > 0.5).astype(int)
    assert (predicted == table["label"].to_numpy()).mean() > 0.9
    assert main(["report", str(run.path)]) == 0
    assert (run.path / "figures" / "confusion_true.png").is_file()
    assert "train" in (run.path / "report.html").read_text()


def test_images_and_jets_are_told_apart(run, file, capsys):
    with pytest.raises(pcloud.errors.InputError, match="takes images, and these are jets"):
        run.predict(pcloud.load_dataset("simulated", "test")[:3])
    wide = ImageSet(torch.zeros(2, 1, 18, 20))
    with pytest.raises(pcloud.errors.InputError, match=r"\(1, 18, 20\), the network takes"):
        run.predict(wide)
    jets = ["train", "--data", "simulated", "--model", "cnn", "--out", str(file.parent / "no")]
    assert main(jets) == 2
    assert "of kind cloud, the network takes images" in capsys.readouterr().err


def test_black_stays_zero_and_colours_have_the_scale_of_the_training_images():
    images = torch.rand(10, 3, 5, 5) * torch.tensor([1.0, 10.0, 100.0]).view(-1, 1, 1)
    images[:, :, 0] = 0
    image_format = ImageFormat.fit(images)
    seen = image_format(images)
    torch.testing.assert_close(seen.square().mean((0, 2, 3)), torch.ones(3))
    assert not seen[:, :, 0].any()
    assert ImageFormat.from_dict(image_format.to_dict()) == image_format


OWN = '''
from torch import nn

class Mine(nn.Module):
    """One layer."""

    def __init__(self, in_channels, num_outputs, *, size):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Flatten(), nn.Linear(in_channels * size[0] * size[1], num_outputs)
        )

    def forward(self, images):
        return self.layer(images)
'''


def test_a_network_of_ones_own_is_known_by_its_input(file, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    run = pcloud.train(
        data=file,
        model=f"{tmp_path / 'mine.py'}:Mine",
        out=tmp_path / "run",
        epochs=1,
        lr=1e-3,
        batch_size=64,
        progress=False,
    )
    assert run.predict(read_images(file)[:3]).shape == (3, 2)


def test_pixels_are_explained_by_a_command_and_drawn_in_the_report(run, capsys):
    pytest.importorskip("captum")
    methods = ["integrated_gradients", "occlusion"]
    assert main(["explain", str(run.path), "--method", *methods, "--jets", "40"]) == 0
    assert "unexplained" in capsys.readouterr().out
    (found,) = read_attribution(run.path).classes
    assert found.methods["integrated_gradients"]["gap"] < 0.1
    assert [entry["title"] for entry in found.mean_heatmaps] == ["mean lying", "mean upright"]
    for entry in found.heatmaps:  # the class is in the bar, not in the noise around it
        image = np.array(entry["image"])
        bright = image > 0.7 * image.max()
        for method in methods:
            size = np.abs(entry["values"][method])
            assert size[bright].mean() > 2 * size[~bright].mean(), (entry["title"], method)
    page = write_report(run.path).read_text()
    assert "attributed to the pixels of 40 test images" in page
    assert (run.path / "figures" / "attribution_images.png").stat().st_size > 5000
