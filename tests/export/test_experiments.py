"""The forms of CMS and ATLAS, with inputs that readers of their own build from jets."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud.cli.program import main
from pcloud.errors import InputError
from pcloud.export import ExportOptions
from pcloud.export.atlas import AtlasSource, output_name
from pcloud.export.cms import CmsSource
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.training.run_sample import load_run_sample
from tests.collection_jets import SCHEMA, write_columns
from tests.export.producers import atlas_inputs, cms_inputs

MOMENTA = ("E", "px", "py", "pz")


@pytest.fixture(scope="module")
def sv_run(tmp_path_factory) -> pcloud.Run:
    """ParticleNet on particles and on secondary vertices with momenta."""
    folder = tmp_path_factory.mktemp("sv")
    file = write_columns(folder / "jets.parquet", 300)
    schema = {**SCHEMA, "collections": {"sv": SCHEMA["collections"]["sv"]}}
    return pcloud.train(
        data=str(file), schema=schema, collections={"sv": ["default", "x"]}, features="kin",
        model="particlenet", epochs=2, batch_size=64, progress=False, test_fraction=0.3,
        model_options={"k": 3, "widths": [[8], [8]], "head_widths": [8], "embed_width": 6},
        out=str(folder / "run"),
    )  # fmt: skip


def columns_of(entries: ak.Array, *further: str) -> dict[str, np.ndarray]:
    """Columns of the entries of one jet; momenta in float64."""
    momenta = {name: np.asarray(entries.p4[name], dtype=np.float64) for name in MOMENTA}
    return momenta | {name: np.asarray(entries[name], dtype=np.float64) for name in further}


def cms_feeds(preprocess, jets, *, has_vertices):
    for jet in jets:
        particles = columns_of(jet)
        total = {name: values.sum() for name, values in particles.items()}
        order = np.argsort(-np.hypot(particles["px"], particles["py"]))
        collections = {"pf": {name: values[order] for name, values in particles.items()}}
        if "charge" in jet.fields:
            collections["pf"]["charge"] = np.asarray(jet.charge)[order]
        if has_vertices:
            collections["sv"] = columns_of(jet.sv, "x")
        yield cms_inputs(preprocess, collections, total)


def outputs_of(graph, feed):
    with torch.no_grad(), higher_derivatives():
        found = graph.predict({name: torch.from_numpy(values) for name, values in feed.items()})
    return {name: values.numpy() for name, values in found.items()}


@pytest.mark.parametrize("which", ["run", "sv_run"])
def test_a_producer_of_cms_gets_the_probabilities_of_the_run(which, request):
    run = request.getfixturevalue(which)
    jets = load_run_sample(run, "test")[:40]
    source = CmsSource(run, ExportOptions(form="cms"), jets)
    preprocess = json.loads(json.dumps(source.preprocess()))
    assert preprocess["output_names"] == run.classes
    assert preprocess["pf_vectors"]["var_names"] == ["px", "py", "pz", "energy"]
    graph = source.graph()
    expected = run.predict(jets)
    feeds = cms_feeds(preprocess, jets, has_vertices=which == "sv_run")
    for feed, scores in zip(feeds, expected, strict=True):
        assert list(feed) == preprocess["input_names"]
        found = outputs_of(graph, feed)
        assert [found[name].shape for name in run.classes] == [(1, 1), (1, 1)]
        values = [found[name].item() for name in run.classes]
        np.testing.assert_allclose(values, scores, atol=1e-4)


def test_long_jets_are_cut_where_the_description_says(run):
    jets = load_run_sample(run, "test")[:20]
    source = CmsSource(run, ExportOptions(form="cms", max_particles=5), jets)
    preprocess = source.preprocess()
    lengths = [feed["pf_mask"].shape[2] for feed in cms_feeds(preprocess, jets, has_vertices=False)]
    assert lengths == [min(5, n) for n in ak.num(jets.p4, axis=1)]


def atlas_feed(config, jet, in_mev=1000.0):
    tracks = {name: np.asarray(jet.p4[name]) * in_mev for name in MOMENTA}
    tracks |= {name: np.asarray(jet[name]) for name in ("charge",) if name in jet.fields}
    of_jet = {"pt": 0.0}
    if "jet_p4" in jet.fields:
        of_jet |= {name: jet.jet_p4[name] * in_mev for name in MOMENTA}
        of_jet["quality"] = jet.quality
    return atlas_inputs(config, tracks, of_jet)


@pytest.mark.parametrize("which", ["run", "target_run"])
def test_a_producer_of_atlas_gets_the_probabilities_of_the_run(which, request):
    run = request.getfixturevalue(which)
    jets = load_run_sample(run, "test")[:40]
    source = AtlasSource(run, ExportOptions(form="atlas"), jets)
    config = json.loads(source.further_metadata()["gnn_config"])
    graph = source.graph()
    if which == "target_run":
        expected = run.predictions(jets)["class"].mean.numpy()
        assert source.output_names()[2:4] == ["pred_pt", "pred_pt_sigma"]
    else:
        expected = run.predict(jets)
    for jet, scores in zip(jets, expected, strict=True):
        feed = atlas_feed(config, jet)
        assert feed["track_features"].shape == (len(jet.p4), 4 + (which == "run"))
        found = outputs_of(graph, feed)
        np.testing.assert_allclose([found["pa"], found["pb"]], scores, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cms", "atlas"])
def test_the_files_give_the_same(form, run, needs_onnx, tmp_path):
    import onnxruntime

    file = tmp_path / "tagger.onnx"
    assert main(["export", str(run.path), str(file), "--form", form]) == 0
    session = onnxruntime.InferenceSession(file)
    jets = load_run_sample(run, "test")[:40]
    expected = run.predict(jets)
    if form == "cms":
        preprocess = json.loads((tmp_path / "preprocess.json").read_text())
        feeds = cms_feeds(preprocess, jets, has_vertices=False)
        assert [value.name for value in session.get_outputs()] == ["a", "b"]
    else:
        config = json.loads(session.get_modelmeta().custom_metadata_map["gnn_config"])
        feeds = (atlas_feed(config, jet) for jet in jets)
        assert [value.name for value in session.get_outputs()] == ["pa", "pb"]
    for feed, scores in zip(feeds, expected, strict=True):
        given = {value.name: feed[value.name] for value in session.get_inputs()}
        found = np.ravel(session.run(None, given))
        np.testing.assert_allclose(found, scores, atol=1e-4)


def test_what_a_form_does_not_have_is_named(run, target_run, sv_run):
    with pytest.raises(InputError, match="no features of jets"):
        CmsSource(target_run, ExportOptions(form="cms"), load_run_sample(target_run, "test"))
    with pytest.raises(InputError, match=r"no further collections \(sv\)"):
        AtlasSource(sv_run, ExportOptions(form="atlas"), load_run_sample(sv_run, "test"))
    with pytest.raises(InputError, match="leave out --padded"):
        ExportOptions(form="cms", padded=True)


def test_names_of_outputs_are_those_of_atlas():
    assert [output_name(c) for c in ("bjets", "taujets", "H->bb", "top")] == [
        "pb", "ptau", "pH__bb", "ptop",
    ]  # fmt: skip
