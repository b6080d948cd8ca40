from __future__ import annotations

import numpy as np
import pytest
import torch

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures import save_figure
from pcloud.images import build_network
from pcloud.interpret.cnn_figures import (
    activation_figure,
    average_image_figure,
    class_activations,
    filter_figure,
    misclassified_figure,
)
from tests.images.made import bars


@pytest.fixture
def images():
    arrays, labels = bars(30)
    return torch.from_numpy(arrays)[:, None].float() / 255, labels


def network(name="cnn", **options):
    torch.manual_seed(0)
    return build_network(name, 1, 2, (18, 18), **options).eval()


def test_activations_are_means_over_the_images_of_a_class(images):
    pictures, labels = images
    model = network()
    found = class_activations(model, pictures, labels, batch_size=7)
    assert list(found) == ["features.0", "features.4", "hidden.0"]
    with torch.no_grad():
        maps = model.features[0](pictures).relu().mean((2, 3)).numpy()
    for label in (0, 1):
        np.testing.assert_allclose(
            found["features.0"][label], maps[labels == label].mean(0), rtol=1e-5
        )


def test_activations_of_a_group_are_means_over_orientations(images):
    pictures, labels = images
    model = network("group_cnn")
    before = class_activations(model, pictures, labels)
    after = class_activations(model, torch.rot90(pictures, 1, (2, 3)), labels)
    for name, values in before.items():
        np.testing.assert_allclose(values, after[name], rtol=1e-4, atol=1e-6)


def test_figures_can_be_drawn(images, tmp_path):
    pictures, labels = images
    model = network("group_cnn")
    scores = np.tile([0.6, 0.4], (30, 1))
    figures = {
        "filters": filter_figure(model),
        "deeper": filter_figure(model, "features.4"),
        "activations": activation_figure(class_activations(model, pictures, labels), ["a", "b"]),
        "wrong": misclassified_figure(pictures, labels, scores, ["a", "b"]),
        "average": average_image_figure(pictures, labels, ["a", "b"]),
    }
    for name, figure in figures.items():
        assert save_figure(figure, tmp_path / name)[0].stat().st_size > 3_000


def test_the_surest_errors_come_first(images):
    pictures, labels = images
    sure = np.linspace(0.55, 0.95, 30)
    scores = np.stack([sure, 1 - sure], axis=1)
    figure = misclassified_figure(pictures, labels, scores, ["lying", "upright"], most=2)
    wrong = np.flatnonzero(labels == 1)
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles[0].startswith(f"lying {sure[wrong[-1]]:.2f}\ntrue: upright")
    assert titles[1].startswith(f"lying {sure[wrong[-2]]:.2f}")


def test_what_is_not_there_is_said(images):
    pictures, labels = images
    with pytest.raises(UnknownNameError, match=r"did you mean 'features\.0'"):
        filter_figure(network(), "feature.0")
    with pytest.raises(InputError, match="no convolution"):
        filter_figure(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="all 30 images"):
        misclassified_figure(pictures, labels, np.eye(2)[labels], ["a", "b"])
