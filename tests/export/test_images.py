"""Exported networks on images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.export import ExportOptions
from pcloud.export.export import sample_of_test
from pcloud.export.source import ImageSource
from pcloud.images import ImageSet
from pcloud.models import build_model, list_models
from tests.images.made import bars


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pcloud.Run:
    folder = tmp_path_factory.mktemp("images")
    images, labels = bars(120, 28)  # the smallest of the networks for digits
    np.savez(folder / "bars.npz", images=images, labels=labels, classes=["lying", "upright"])
    return pcloud.train(
        data=str(folder / "bars.npz"), model="cnn", out=str(folder / "run"), epochs=2,
        batch_size=32, test_fraction=0.3, progress=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_file_takes_stored_images(run, needs_onnx, tmp_path):
    import onnxruntime

    written = run.export(tmp_path / "cnn.onnx")
    assert written.parity.difference < 1e-5
    assert [entry["name"] for entry in written.metadata["inputs"]] == ["pixels"]
    session = onnxruntime.InferenceSession(written.path)
    images, _ = bars(5, 28, seed=3)
    sample = ImageSet(torch.from_numpy(np.asarray(images)).reshape(5, 1, *images.shape[-2:]))
    (found,) = session.run(None, {"pixels": sample.images.float().numpy()})
    np.testing.assert_allclose(found, run.predict(sample), atol=1e-5)


@pytest.mark.parametrize("name", list_models("image"))
def test_the_graph_of_every_network_on_images_gives_its_scores(run, name, monkeypatch):
    sample = sample_of_test(run, 6)
    size = tuple(sample.images.shape[-2:])
    try:
        network = build_model(name, sample.images.shape[1], 2, size=size).eval()
    except InputError:
        network = build_model(name, sample.images.shape[1], 2).eval()
    monkeypatch.setitem(vars(run.tagger()), "model", network)
    source = ImageSource(run, ExportOptions(), sample)
    expected = source.reference()["probabilities"]
    for images, feed in source.batches():
        (found,) = source.graph()(torch.from_numpy(feed["pixels"]))
        np.testing.assert_allclose(found, expected[images], atol=1e-5)


def test_options_of_jets_are_refused(run):
    with pytest.raises(InputError, match="are for jets, not for images"):
        ImageSource(run, ExportOptions(padded=True), sample_of_test(run, 6))
