"""DeepJet beside a loop over jets and collections, and on the jets of a run with vertices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.nn import RaggedLayout
from tests.collection_jets import SCHEMA, jets_with_collections
from tests.models.contract import make_jets, make_model

COUNTS = [3, 0, 20, 1, 7]
OPTIONS = {"collections": (7, 4, 2), "widths": ((16, 8), (4,)), "lstm_widths": (12, 6)}


@pytest.fixture(scope="module")
def model():
    return make_model("deepjet", **OPTIONS)


def inputs():
    """Jets of three collections; some jets have none of a collection, one has no rows at all."""
    x, p4, batch = make_jets(COUNTS)
    collection = torch.tensor([0, 1, 0, *[0, 0, 1, 2] * 5, 2, *[1] * 7])
    layout = RaggedLayout.from_batch(batch, len(COUNTS)).with_rows(collection=collection)
    return x, p4, batch, layout, collection


@torch.no_grad()
def test_states_are_those_of_a_loop_whose_last_row_is_the_hardest(model):
    x, p4, batch, layout, collection = inputs()
    found = model(x, p4, batch, layout)
    pt = p4[:, 1:3].norm(dim=-1)
    for jet in range(len(COUNTS)):
        states = []
        for i, branch in enumerate(model.branches):
            own = ((batch == jet) & (collection == i)).nonzero().flatten()
            own = own[pt[own].argsort()]
            state = torch.zeros(branch.recurrent.hidden_size)
            if len(own):
                rows = branch.rows(x[own][:, : branch.in_features])
                state = branch.recurrent(rows)[0][-1]
            states.append(state)
        expected = model.head(torch.cat(states)[None])[0]
        torch.testing.assert_close(found[jet], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padded_rows_give_the_scores_of_ragged_ones(model):
    """The layout of an exported graph: every jet has the same number of rows, then a padding jet."""
    x, p4, batch, layout, collection = inputs()
    expected = model(x, p4, batch, layout)
    length = max(COUNTS) + 2
    slot = torch.cat([torch.arange(n) for n in COUNTS])
    rows = batch * length + slot
    number = len(COUNTS) * length
    jet = torch.full((number,), len(COUNTS)).index_copy(0, rows, batch)
    padded = [
        torch.zeros(number, *a.shape[1:], dtype=a.dtype).index_copy(0, rows, a)
        for a in (x, p4, collection)
    ]
    counts = torch.tensor([*COUNTS, 0])
    wide = RaggedLayout.from_batch(jet.sort().values, len(COUNTS) + 1)
    wide = wide.with_rows(collection=padded[2])
    object.__setattr__(wide, "batch", jet)
    object.__setattr__(wide, "counts", counts)
    object.__setattr__(wide, "row_length", length)
    found = model(padded[0], padded[1], jet, wide)
    torch.testing.assert_close(found[:-1], expected, rtol=1e-4, atol=1e-5)


def test_rows_of_one_collection_do_not_enter_the_statistics_of_another():
    torch.manual_seed(0)
    model = pcloud.build_model("deepjet", 7, 2, **OPTIONS).train()
    x, p4, batch, layout, collection = inputs()
    model(x, p4, batch, layout).sum().backward()
    for i, branch in enumerate(model.branches):
        norm = branch.rows.norms[0]
        own = x[collection == i][:, : branch.in_features]
        torch.testing.assert_close(norm.running_mean, 0.1 * own.mean(0))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_run_takes_particles_vertices_and_columns_of_jets(tmp_path):
    jets = jets_with_collections(tmp_path / "a.parquet", 200)
    run = pcloud.train(
        data=tmp_path / "a.parquet",
        schema=SCHEMA,
        model="deepjet",
        model_options={"widths": [[8, 4]], "lstm_widths": [8, 4], "head_widths": [8]},
        jet_features=["jet_mass"],
        out=tmp_path / "run",
        epochs=1,
        batch_size=32,
        progress=False,
    )
    scores = run.predict(jets[:20])
    assert scores.shape == (20, 2)
    np.testing.assert_allclose(run.predict(jets[3:5]), scores[3:5], rtol=1e-4, atol=1e-5)


def test_collections_that_do_not_fit_the_features_are_refused():
    with pytest.raises(InputError, match="the widest of the collections has 7 features"):
        pcloud.build_model("deepjet", 7, collections=(5, 4))
    with pytest.raises(InputError, match="widths needs the layers of at least one collection"):
        pcloud.build_model("deepjet", 7, widths=())
