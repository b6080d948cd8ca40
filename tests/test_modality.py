"""Kinds of data: what is registered, and a kind of one's own in every command."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud import modality
from pcloud.errors import InputError, UnknownNameError
from pcloud.images import ImageSet
from pcloud.modality import find_modality, list_modalities, modality_of_model, register_modality
from pcloud.models.registry import _MODELS
from pcloud.training.config import DataConfig
from pcloud.training.data import load_splits


@pytest.fixture
def registries(monkeypatch):
    """Let what a test registers be gone after it."""
    list_modalities()  # complete
    pcloud.list_models()
    monkeypatch.setattr(modality, "_REGISTERED", dict(modality._REGISTERED))
    models = dict(_MODELS)
    yield
    _MODELS.clear()
    _MODELS.update(models)


def test_all_kinds_of_data_are_known():
    kinds = ["anomalous_cloud", "anomalous_image", "cloud", "generator", "image", "series", "table"]
    assert list_modalities() == kinds
    nouns = [find_modality(kind).noun for kind in list_modalities()]
    assert nouns == ["jets", "images", "jets", "jets", "images", "records", "events"]
    assert modality_of_model("pfn") is find_modality("cloud")
    assert modality_of_model("cnn") is find_modality("image")
    with pytest.raises(UnknownNameError, match="did you mean 'cloud'"):
        find_modality("clouds")
    with pytest.raises(ValueError, match="'cloud' exists already"):
        register_modality(find_modality("cloud"))


@pytest.mark.parametrize("kind", ["cloud", "image"])
def test_inputs_are_read_back_as_they_were_stored(kind):
    jets = pcloud.load_dataset("simulated", "test")[:5]
    images = ImageSet(torch.arange(120.0).view(5, 1, 4, 6))
    sample, other = (jets, images) if kind == "cloud" else (images, jets)
    found = find_modality(kind)
    inputs = found.fit_inputs(sample, DataConfig(data="simulated"))
    assert inputs.kind == kind
    assert found.inputs_from_dict(inputs.to_dict()) == inputs
    (batch,) = found.loader(found.dataset(sample, inputs), 5)
    assert len(found.arguments(batch)) == (3 if kind == "cloud" else 1)
    with pytest.raises(InputError, match=f"this network takes {found.noun}, and these are"):
        found.check(other, inputs, "these jets")


@pytest.mark.parametrize("kind", ["cloud", "image"])
def test_a_subsample_keeps_the_order(kind):
    numbers = np.arange(50)
    images = ImageSet(torch.zeros(50, 1, 2, 2), torch.from_numpy(numbers))
    sample = images if kind == "image" else ak.zip({"label": numbers})
    drawn = np.asarray(find_modality(kind).subsample(sample, 20, seed=3).label)
    assert len(set(drawn)) == 20
    assert (np.diff(drawn) > 0).all()


@pytest.mark.usefixtures("registries")
def test_a_kind_of_data_of_ones_own_goes_through_every_command(run_script, tmp_path):
    assert "accuracy" in run_script("examples/my_table.py", "--epochs", "3")
    run = pcloud.Run(tmp_path / "runs" / "mlp")
    assert run.modality.noun == "events"
    (test,) = load_splits(run.config, "test")
    number = len(test)
    assert number == pytest.approx(200, abs=40)
    assert (run.predict(test).argmax(1) == test.label.numpy()).mean() > 0.8
    assert f"{number} events" in str(run.evaluate())
    assert run.predict_file("events.npz", "scores.parquet", chunk_size=700).jets == 2000
    run.calibrate()
    assert run.predict(test[:3], calibrated=True).shape == (3, 2)
    assert "correctly classified" in str(run.uncertainty(samples=3).rows())
    for study in (run.robustness, run.explain, lambda: run.explain("occlusion")):
        with pytest.raises(InputError, match=r"networks on jets.*and this one takes events"):
            study()
    with pytest.raises(InputError, match="takes events, and these are jets"):
        run.predict(pcloud.load_dataset("simulated", "test")[:3])
    options = {"data": "events.npz", "model": "own_mlp", "out": "runs/other", "progress": False}
    with pytest.raises(InputError, match="events have no mass"):
        pcloud.train(**options, decorrelate="mass", epochs=1, lr=0.01)
