from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcloud
from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError
from pcloud.interpret.attribution_images import attribute_images
from pcloud.interpret.response import log_odds
from pcloud.studies.heatmaps import network_and_images

SHAPE = (2, 5, 7)


class Linear(nn.Module):
    """Log-odds that are a weighted sum of pixels: every method has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)))

    def forward(self, images: Tensor) -> Tensor:
        odds = (images * self.weight).sum((1, 2, 3))
        return torch.stack([torch.ones_like(odds), 1 + odds], dim=1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(4))


def curved() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(140, 3))
    return nn.Sequential(*layers).eval()


def test_a_linear_response_is_attributed_exactly(images):
    model = Linear()
    weight = model.weight.detach().numpy()
    exact = images.numpy() * weight
    path = attribute_images(model, images, steps=2, batch_size=5)
    np.testing.assert_allclose(path.values, exact, atol=1e-6)
    np.testing.assert_allclose(path.gap, 0, atol=1e-5)
    saliency = attribute_images(model, images, "saliency")
    np.testing.assert_allclose(saliency.values, np.abs(weight)[None].repeat(6, 0), rtol=1e-6)
    smooth = attribute_images(model, images, "smoothgrad", samples=3, batch_size=7)
    np.testing.assert_allclose(smooth.values, saliency.values, rtol=1e-5)
    single = attribute_images(model, images, "occlusion", window=1)
    np.testing.assert_allclose(single.per_pixel, exact.sum(1), atol=1e-5)
    assert model.weight.requires_grad


def test_integrated_gradients_begin_where_one_says_and_become_complete(images):
    model, start = curved(), images.mean(0)
    found = attribute_images(model, images, target=2, baseline=start, steps=40)
    with torch.no_grad():
        odds = log_odds(model(torch.cat([images, start[None]])), 2).double().numpy()
    np.testing.assert_allclose(found.values.sum((1, 2, 3)), odds[:-1] - odds[-1], atol=1e-4)
    with pytest.raises(InputError, match="only integrated gradients"):
        _ = attribute_images(model, images, "saliency").gap


def test_occlusion_is_the_response_without_a_square(images):
    model, start = curved(), images.mean(0)
    found = attribute_images(model, images, "occlusion", baseline=start, window=3, batch_size=4)
    covered = images.clone()
    covered[:, :, 3:5, 6:7] = start[:, 3:5, 6:7]  # at the border squares are smaller
    with torch.no_grad():
        change = log_odds(model(images)) - log_odds(model(covered))
    np.testing.assert_allclose(found.per_pixel[:, 3:5, 6:7].sum((1, 2)), change, atol=1e-5)


def test_the_network_in_a_tagger_of_jets_sees_images():
    model = pcloud.build_model("image_cnn", 7).eval()
    jets = pcloud.load_dataset("simulated", "test")[:4]
    data = JetDataset(jets)
    network, images = network_and_images(model, jets, data.feature_set)
    batch = collate(data, torch.arange(4))
    with torch.no_grad():
        torch.testing.assert_close(network(images), model(batch.x, batch.p4, batch.batch))
    assert network_and_images(pcloud.build_model("pfn", 7), jets, data.feature_set) is None


def test_what_cannot_be_done_is_said(images):
    with pytest.raises(InputError, match="window must be at least 1"):
        attribute_images(Linear(), images, "occlusion", window=0)
    with pytest.raises(InputError, match=r"shape \(2, 5, 7\), got \(2, 5\)"):
        attribute_images(Linear(), images, baseline=torch.zeros(2, 5))
