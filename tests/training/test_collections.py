"""Runs on several collections: from the file to training, scores and studies."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import pcloud
from pcloud.cli.program import main
from pcloud.errors import InputError
from pcloud.io import read_jets
from pcloud.keys import COLLECTIONS, fingerprint_hashes
from pcloud.yaml_files import read_yaml
from tests.collection_jets import SCHEMA, shuffled_entries, write_columns
from tests.conftest import only_transformations

OPTIONS = {
    "model": "pfn",
    "model_options": {"phi_widths": [8, 8], "head_widths": [8], "embed_width": 6},
    "epochs": 2,
    "batch_size": 64,
    "progress": False,
}
COLLECTIONS_WANTED = {"sv": ["default", "x"], "lost": None, "flow": None}


@pytest.fixture(scope="session")
def file(tmp_path_factory) -> Path:
    return write_columns(tmp_path_factory.mktemp("collections") / "jets.parquet", 400)


@pytest.fixture(scope="session")
def run(file, tmp_path_factory) -> pcloud.Run:
    out = tmp_path_factory.mktemp("collections") / "run"
    features = ["kin", {"column": "pid", "embed": 2}]
    return pcloud.train(
        data=str(file), schema=SCHEMA, out=str(out), features=features,
        collections=COLLECTIONS_WANTED, **OPTIONS,
    )  # fmt: skip


def test_a_checkpoint_keeps_the_collections_and_their_standardisation(run):
    features = pcloud.Run(run.path).feature_set
    assert [part.name for part in features.collections] == ["sv", "lost", "flow"]
    assert [part.entries for part in features.collections] == ["momenta", "positions", "columns"]
    assert features.features[-1].categories == (-211.0, 22.0, 211.0)
    by_name = {f.name: f for f in features.collections[0].features}
    values = read_jets(str(run.config.data), SCHEMA).sv.x
    assert by_name["x"].shift == pytest.approx(np.median(ak.flatten(values)), rel=0.15)
    assert by_name["log_pt"].shift != 1.7  # of particles


def test_scores_of_files_and_of_jets_in_memory_are_equal(run, file, tmp_path):
    jets = read_jets(file, SCHEMA)
    scores = run.predict(jets)
    assert np.array_equal(run.predict(shuffled_entries(jets)), scores)
    assert np.array_equal(run.predict(jets[[7]])[0], run.predict(jets[[7]], batch_size=1)[0])
    run.predict_file(str(file), tmp_path / "scores.parquet", chunk_size=37)
    table = pq.read_table(tmp_path / "scores.parquet").to_pandas()
    assert table.entry.tolist() == list(range(400))
    np.testing.assert_allclose(table[["score_qcd", "score_top"]], scores, atol=1e-6)
    assert table.label.tolist() == jets.label.to_list()


def test_collections_decide_the_scores(run, file):
    jets = read_jets(file, SCHEMA)
    for name, column in (("sv", "x"), ("lost", "eta"), ("flow", "pt")):
        changed = ak.with_field(jets, jets[name][column] + 1, [name, column])
        assert not np.array_equal(run.predict(changed), run.predict(jets)), name


def test_studies_of_a_run_on_collections(run, tmp_path):
    assert "AUC" in str(run.evaluate())
    scores = pq.read_table(run.path / "scores.parquet").to_pandas()
    jets = read_jets(str(run.config.data), SCHEMA)
    again = run.predict(jets[scores.entry.to_numpy()])
    np.testing.assert_allclose(scores.score_top, again[:, 1], atol=1e-6)
    assert (scores.label.to_numpy() == jets.label.to_numpy()[scores.entry]).all()
    with only_transformations("rotation", "particle_loss"):
        robust = run.writing_to(tmp_path).robustness(jets=30)
    assert robust.robustness
    for method, word in (("taylor", "Taylor coefficients"), ("occlusion", "attributions")):
        message = rf"{word} are for networks on particles alone, .* sv, lost, flow, too"
        with pytest.raises(InputError, match=message):
            run.explain(method)


def test_a_run_is_not_continued_with_other_entries(file):
    jets = read_jets(file, SCHEMA)
    hashes = fingerprint_hashes(jets, [COLLECTIONS])
    assert np.array_equal(fingerprint_hashes(shuffled_entries(jets), [COLLECTIONS]), hashes)
    changed = ak.with_field(jets, jets.sv.x + 1, ["sv", "x"])
    differ = fingerprint_hashes(changed, [COLLECTIONS]) != hashes
    assert differ.tolist() == (ak.num(jets.sv) > 0).to_list()
    assert np.array_equal(fingerprint_hashes(changed), fingerprint_hashes(jets))


def test_the_command_takes_all_collections_of_the_schema_by_default(file, tmp_path, capsys):
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    command = ["train", "--data", str(file), "--schema", str(tmp_path / "schema.yaml")]
    command += ["--out", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "128"]
    small = ["--model-options.widths", "[[4], [4]]", "--model-options.k", "3"]
    assert main([*command, "--model", "particlenet_collections", *small]) in (0, None)
    said = capsys.readouterr().err
    assert "collection lost: deta, dphi, delta_r, q" in said
    stored = read_yaml(tmp_path / "run" / "config.yaml")
    assert stored["collections"] is None
    assert len(pcloud.Run(tmp_path / "run").feature_set.collections) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"collections": ["sv2"]}, r"jets.parquet: no collection named 'sv2'.*'sv'"),
        ({"collections": {"sv": ["y"]}}, r"jets.parquet: no column named 'y' in collection 'sv'"),
        (
            {"model": "lorentznet", "collections": ["sv", "lost"], "model_options": {}},
            r"jets.parquet: model 'lorentznet' needs momenta, and collection 'lost' has none",
        ),
        ({"model": "part", "model_options": {}}, r"model 'part' needs momenta, and collection 'lo"),
        (
            {"collections": {"sv": ["x * 0 + 1"]}},
            r"feature 'x \* 0 \+ 1' of collection 'sv' is constant in the training jets, 1",
        ),
        (
            {"collections": {"sv": ["log(x - 100)"]}},
            r"feature 'log\(x - 100\)' of collection 'sv' is NaN or infinite in .* of the training",
        ),
    ],
    ids=["name", "column", "momenta", "pairs", "constant", "nan"],
)
def test_mistakes_are_named_before_training(file, tmp_path, options, message):
    with pytest.raises(InputError, match=message) as caught:
        pcloud.train(
            data=str(file), schema=SCHEMA, out=str(tmp_path / "run"), **{**OPTIONS, **options}
        )
    assert "\n" not in str(caught.value)


def test_a_network_of_momenta_alone_takes_the_particles_by_default(file, tmp_path):
    options = OPTIONS | {"model": "hl_logistic", "model_options": {}}
    run = pcloud.train(data=str(file), schema=SCHEMA, out=str(tmp_path / "run"), **options)
    assert run.feature_set.collections == ()


def test_an_empty_collection_is_named(file, tmp_path):
    jets = read_jets(file, SCHEMA)
    empty = ak.with_field(jets, jets.sv[:, :0], "sv")
    with pytest.raises(InputError, match="collection 'sv' is empty in all of the training jets"):
        pcloud.train(data=empty, out=str(tmp_path / "run"), **OPTIONS)


def test_weights_are_taken_over_only_for_the_same_collections(run, file, tmp_path):
    options = OPTIONS | {"features": ["kin", {"column": "pid", "embed": 2}], "epochs": 1}
    data = {"data": str(file), "schema": SCHEMA, "init_from": str(run.path)}
    same = pcloud.train(
        **data, out=str(tmp_path / "same"), collections=COLLECTIONS_WANTED, **options
    )
    assert same.finished
    with pytest.raises(
        InputError, match=r"\(particles, sv, lost, flow there, particles, sv here\)"
    ):
        pcloud.train(**data, out=str(tmp_path / "other"), collections=["sv"], **options)


def test_observables_of_decorrelation_and_weights_are_of_the_particles(file, tmp_path):
    given = {"reweight": "pt", "decorrelate": "multiplicity"}
    run = pcloud.train(data=str(file), schema=SCHEMA, out=str(tmp_path / "run"), **OPTIONS, **given)
    assert run.finished


def test_a_missing_value_of_a_collection_is_named_and_filled(file, tmp_path):
    table = ak.from_parquet(file)
    x = ak.where(ak.local_index(table.sv_x) == 1, np.nan, table.sv_x)
    path = tmp_path / "nan.parquet"
    ak.to_parquet(ak.with_field(table, x, "sv_x"), path)
    options = {"data": str(path), "out": str(tmp_path / "run"), "collections": {"sv": ["x"]}}
    with pytest.raises(InputError, match=r"nan.parquet: .*NaN or infinity in sv.x .*\{'sv.x': 0\}"):
        pcloud.train(**options, schema=SCHEMA, **OPTIONS)
    assert pcloud.train(**options, schema=SCHEMA | {"fill": {"sv.x": 0}}, **OPTIONS).finished
    not_used = {**options, "collections": {"sv": ["default"]}}
    assert pcloud.train(**not_used, schema=SCHEMA, overwrite=True, **OPTIONS).finished


def test_jets_of_events_with_collections_are_scored_in_their_lists(run, file):
    jets = read_jets(file, SCHEMA)[:12]
    events = ak.unflatten(jets, [3, 0, 5, 4])
    scores = run.predict(events)
    assert ak.num(scores).to_list() == [3, 0, 5, 4]
    assert np.array_equal(ak.to_numpy(ak.flatten(scores)), run.predict(jets))
    without = jets[["p4", "pid"]]
    with pytest.raises(
        InputError, match=r"the features need sv.p4, .*, which these jets do not have"
    ):
        run.predict(without)
