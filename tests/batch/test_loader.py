"""Batches that are bounded by their number of particles."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.errors import InputError


@pytest.fixture(scope="module")
def data() -> pcloud.JetDataset:
    return pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:300])


def seen(batches: list) -> list[float]:
    return sorted(batch.p4[a, 1].item() for batch in batches for a in batch.ptr[:-1])


@pytest.mark.parametrize("share", [1.0, 1.7, 8.0])
def test_no_batch_has_more_particles_and_every_jet_is_in_one(data, share: float) -> None:
    longest = int(data.ptr.diff().max())
    most = int(share * longest)
    loader = pcloud.JetLoader(data, 64, shuffle=True, seed=3, batch_particles=most)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert max(len(batch.x) for batch in batches) <= most
        assert min(batch.num_graphs for batch in batches) >= 1
        assert sum(batch.num_graphs for batch in batches) == 300
        assert seen(batches) == seen([*pcloud.JetLoader(data, 300)])
    if share == 8.0:
        assert len(loader) < 300 / 4  # and not each jet alone


def test_a_bounded_loader_continues_where_it_was_stopped(data) -> None:
    loader = pcloud.JetLoader(data, 64, shuffle=True, batch_particles=1500)
    whole = [batch.x for batch in loader]
    loader.load_state_dict({"epoch": 0, "next": 5})
    for expected, batch in zip(whole[5:], loader, strict=True):
        assert torch.equal(expected, batch.x)


def test_a_jet_that_does_not_fit_is_refused(data) -> None:
    with pytest.raises(InputError, match="batch_particles is 10, and a jet has"):
        pcloud.JetLoader(data, 64, batch_particles=10)


@pytest.mark.usefixtures("small_sample")
def test_a_training_is_bounded_by_particles(tmp_path) -> None:
    few = {"max_jets": 40, "max_val_jets": 30, "epochs": 1, "progress": False}
    options = {"data": "simulated", "model": "pfn", "batch_size": 40, **few}
    pcloud.train(**options, out=tmp_path / "bounded", batch_particles=1000)
    text = (tmp_path / "bounded" / "config.yaml").read_text()
    assert "batch_particles: 1000" in text
    with pytest.raises(InputError, match="at least that"):
        pcloud.train(**options, out=tmp_path / "refused", batch_particles=3)
    assert not (tmp_path / "refused" / "metrics.csv").exists()
