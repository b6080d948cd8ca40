"""ParticleNet of several collections: CMS's outputs from CMS's weights, and one cloud of all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.nn import RaggedLayout
from tests.models.contract import make_jets


def union(stored) -> tuple[torch.Tensor, ...]:
    """Features, positions, jet and collection of all rows, sorted by jet."""
    counts = [stored["pf_counts"], stored["sv_counts"]]
    jet = np.concatenate([np.repeat(np.arange(len(n)), n) for n in counts])
    collection = np.repeat([0, 1], [n.sum() for n in counts])
    narrow = stored["sv_features"]
    width = stored["pf_features"].shape[1]
    padded = np.pad(narrow, ((0, 0), (0, width - narrow.shape[1])))
    x = np.concatenate([stored["pf_features"], padded])
    pos = np.concatenate([stored["pf_points"], stored["sv_points"]])
    order = np.argsort(jet, kind="stable")
    return tuple(torch.from_numpy(a[order]) for a in (x, pos, jet, collection))


@torch.no_grad()
def test_weights_of_cms_give_the_outputs_of_cms(reference_data, tmp_path):
    file = reference_data / "cms_particlenet_ak4_two_collections.npz"
    if not file.exists():
        pytest.skip(f"no {file}")
    stored = np.load(file)
    weights = {
        name.removeprefix("weight/"): torch.from_numpy(stored[name])
        for name in stored.files
        if name.startswith("weight/")
    }
    torch.save(weights, tmp_path / "cms.pt")
    model = pcloud.load_official("particlenet_collections", tmp_path / "cms.pt")
    x, pos, jet, collection = union(stored)
    p4 = x.new_zeros(len(x), 4)
    scores = model(x, p4, jet, pos=pos, collection=collection).softmax(-1)
    counts = stored["pf_counts"] + stored["sv_counts"]
    assert counts.min() < stored["k_plus_1"][0]  # short jets are among them
    np.testing.assert_allclose(scores.numpy(), stored["output"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_layout_can_carry_positions_and_collections():
    x, p4, batch = make_jets()
    model = pcloud.build_model("particlenet_collections", 7, collections=(7, 4)).eval()
    pos, collection = p4[:, 1:3], torch.arange(len(x)) % 2
    expected = model(x, p4, batch, pos=pos, collection=collection)
    layout = RaggedLayout.from_batch(batch)
    carried = layout.with_rows(pos=pos, collection=collection)
    assert torch.equal(model(x, p4, batch, carried), expected)
    assert not torch.equal(model(x, p4, batch, layout), expected)


def test_collections_that_do_not_fit_the_features_are_refused():
    with pytest.raises(InputError, match="the widest of the collections has 7 features"):
        pcloud.build_model("particlenet_collections", 7, collections=(5, 4))
