"""Scores of a trained tagger, from Python and in files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pcloud import JetDataset, JetLoader, Run, train
from pcloud.cli import main
from pcloud.clouds import Clouds
from pcloud.errors import InputError
from pcloud.evaluation import evaluate_scores_file, read_metrics, read_scores
from pcloud.io import JetSchema, read_jets, write_jets
from pcloud.studies.evaluate import evaluate_run, evaluation_folder
from pcloud.studies.predict import predict_file
from pcloud.training import TrainConfig, run_folder
from pcloud.training.data import load_splits
from pcloud.training.folder import write_config
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def trained(jet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("trained") / "run"
    options = {"data": jet_file, "model": TINY, "epochs": 2, "batch_size": 64}
    return train(**options, out=out, progress=False)


def test_scores_are_the_softmax_of_the_model(trained: Run) -> None:
    jets = make_jets(100, seed=5)
    data = JetDataset(jets, trained.feature_set)
    batch = next(iter(JetLoader(data, batch_size=100)))
    with torch.no_grad():
        logits = trained.model()(batch.x, batch.p4, batch.batch)
    expected = logits.double().softmax(dim=-1).numpy()
    assert trained.predict(jets) == pytest.approx(expected, rel=1e-6)
    assert trained.predict(jets).dtype == np.float64


def test_scores_do_not_depend_on_batches_or_chunks(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    jets = make_jets(100, seed=5)
    expected = trained.predict(jets)
    assert trained.predict(jets, batch_size=7) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(run_folder, "SCORED_JETS", 13)
    assert trained.predict(jets) == pytest.approx(expected, rel=1e-5)
    assert trained.predict(jets[:0]).shape == (0, 2)


def test_a_model_from_a_run_is_in_evaluation_mode(trained: Run) -> None:
    assert not any(module.training for module in trained.model().modules())


def test_evaluating_test_jets_leaves_scores_and_metrics(trained: Run, tmp_path: Path) -> None:
    table, folder = evaluate_run(trained), trained.path
    assert evaluation_folder(trained) == folder
    assert read_metrics(folder)["auc"].value == table["auc"].value
    scores = read_scores(folder / "scores.parquet")
    assert scores.classes == ("a", "b")
    assert len(scores.labels) == len(load_splits(trained.config, "test")[0])
    assert evaluate_scores_file(folder / "scores.parquet")["auc"].value == table["auc"].value


def test_evaluating_another_file_spares_the_runs_own_results(trained: Run, tmp_path: Path) -> None:
    evaluate_run(trained)
    before = (trained.path / "metrics.json").read_bytes()
    write_jets(make_jets(80, seed=9), tmp_path / "other.parquet")
    other = str(tmp_path / "other.parquet")
    table, folder = evaluate_run(trained, other), evaluation_folder(trained, other)
    assert (folder / "scores.parquet").exists()
    assert folder == trained.path / "evaluations" / "other"
    assert sum(table.counts) == 80
    assert (trained.path / "metrics.json").read_bytes() == before
    evaluate_run(trained, split="val")
    assert (trained.path / "evaluations" / "val" / "metrics.json").exists()


def test_jets_are_evaluated_a_chunk_at_a_time(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "other.parquet")
    write_jets(make_jets(80, seed=9), path)
    whole = [evaluate_run(trained, path), evaluate_run(trained)]
    numbers, predict_jets = [], Run.predict

    def counted(run: Run, jets: ak.Array, **options: Any) -> np.ndarray:
        numbers.append(len(jets))
        return predict_jets(run, jets, **options)

    monkeypatch.setattr("pcloud.studies.evaluate.SCORED_JETS", 32)
    monkeypatch.setattr(Run, "predict", counted)
    tables = [evaluate_run(trained, path), evaluate_run(trained)]
    assert numbers == [32, 32, 16, 32, 13]
    for table, expected in zip(tables, whole, strict=True):
        assert table["accuracy"].value == pytest.approx(expected["accuracy"].value, rel=1e-5)
        assert table["auc"].value == pytest.approx(expected["auc"].value, rel=1e-5)


def test_jets_of_unknown_classes_are_refused_before_any_is_scored(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jets = make_jets(80, seed=9)
    jets = jets[np.argsort(jets.label)]  # the known class comes first
    jets.attrs["classes"] = ["a", "strange"]
    write_jets(jets, tmp_path / "strange.parquet")

    def unexpected(*args: Any, **options: Any) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("pcloud.studies.evaluate.SCORED_JETS", 10)
    monkeypatch.setattr(Run, "predict", unexpected)
    with pytest.raises(InputError, match="cannot be evaluated on strange"):
        evaluate_run(trained, str(tmp_path / "strange.parquet"))


def test_labels_are_matched_by_the_names_of_the_classes(trained: Run, tmp_path: Path) -> None:
    jets = make_jets(80, seed=9)
    write_jets(jets, tmp_path / "same.parquet")
    turned = ak.with_field(jets, 1 - jets.label, "label")
    turned.attrs["classes"] = ["b", "a"]
    write_jets(turned, tmp_path / "turned.parquet")
    same = evaluate_run(trained, str(tmp_path / "same.parquet"))
    matched = evaluate_run(trained, str(tmp_path / "turned.parquet"))
    assert matched["auc"].value == same["auc"].value
    assert matched["accuracy"].value == same["accuracy"].value


def test_jets_of_unknown_classes_are_refused(trained: Run, tmp_path: Path) -> None:
    jets = make_jets(80, seed=9)
    jets.attrs["classes"] = ["a", "strange"]
    write_jets(jets, tmp_path / "strange.parquet")
    with pytest.raises(InputError, match="cannot be evaluated on strange"):
        evaluate_run(trained, str(tmp_path / "strange.parquet"))


def test_unlabelled_jets_are_predicted_but_not_evaluated(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "unlabelled.parquet"
    write_jets(ak.without_field(make_jets(80, seed=9), "label"), path)
    with pytest.raises(InputError, match="pcloud predict"):
        evaluate_run(trained, str(path))
    assert predict_file(trained, str(path), tmp_path / "scores.parquet").jets == 80
    assert pq.read_table(tmp_path / "scores.parquet").column_names == [
        *("entry", "score_a", "score_b", "reason")
    ]


@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_a_predicted_file_has_the_scores_of_all_jets_in_order(
    trained: Run, tmp_path: Path, chunk_size: int
) -> None:
    jets = make_jets(80, seed=9)
    write_jets(jets, tmp_path / "jets.parquet")
    out, seen = tmp_path / "scores.parquet", []
    found = predict_file(
        trained,
        str(tmp_path / "jets.parquet"),
        out,
        chunk_size=chunk_size,
        advance=seen.append,
    )
    assert found.jets == 80
    assert sum(seen) == pytest.approx(1)
    table = pq.read_table(out)
    assert table.column_names == ["entry", "label", "score_a", "score_b", "reason"]
    assert json.loads(table.schema.metadata[b"classes"]) == ["a", "b"]
    assert table["label"].to_pylist() == jets.label.tolist()
    assert table["score_b"].to_numpy() == pytest.approx(trained.predict(jets)[:, 1], rel=1e-5)


def test_an_interrupted_prediction_leaves_no_file(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jets(make_jets(80, seed=9), tmp_path / "jets.parquet")
    (tmp_path / "out").mkdir()

    def interrupt(part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(
            trained,
            str(tmp_path / "jets.parquet"),
            tmp_path / "out" / "scores.parquet",
            chunk_size=20,
            advance=interrupt,
        )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def many_files(tmp_path: Path) -> Path:
    """Folder of files of jets in several folders, some of one name."""
    folder = tmp_path / "jets"
    for i, name in enumerate(("a/x.parquet", "a/x.npz", "b/x.parquet")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_jets(make_jets(20 + i, seed=i), folder / name)
    return folder


def test_many_files_have_a_file_of_scores_each(
    trained: Run, many_files: Path, tmp_path: Path
) -> None:
    out, seen = tmp_path / "scores", []
    found = trained.predict_files(str(many_files / "**/x.*"), out, advance=seen.append)
    assert sum(seen) == pytest.approx(1)
    names = ["a/x.npz.parquet", "a/x.parquet.parquet", "b/x.parquet"]
    assert [str(p.path.relative_to(out)) for p in found] == names
    assert [p.jets for p in found] == [21, 20, 22]
    for prediction, seed in zip(found, (1, 0, 2), strict=True):
        scores = pq.read_table(prediction.path)["score_b"].to_numpy()
        expected = trained.predict(make_jets(20 + seed, seed=seed))[:, 1]
        assert scores == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_prediction_of_many_files_continues(
    trained: Run, many_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, seen = tmp_path / "scores", []

    def interrupt(part: float) -> None:
        seen.append(part)
        if len(seen) == 2:
            raise KeyboardInterrupt

    pattern = str(many_files / "*/x.*")
    with pytest.raises(KeyboardInterrupt):
        trained.predict_files(pattern, out, advance=interrupt)
    first = out / "a" / "x.npz.parquet"
    assert [path for path in out.rglob("*") if path.is_file()] == [first]
    time = first.stat().st_mtime_ns
    found = trained.predict_files(pattern, out)
    assert [prediction.is_old for prediction in found] == [True, False, False]
    assert first.stat().st_mtime_ns == time
    words = ["predict", str(trained.path), pattern, "-o", str(out), "-q"]
    assert main(words) == 0
    said = f"scores of 63 jets, 3 files of 3 done before: {out}\n"
    assert capsys.readouterr().out == said
    assert main([*words, "--on-bad-jet", "drop"]) == 2
    assert "exists already, with scores of other jets" in capsys.readouterr().err


def test_scores_of_a_changed_file_or_network_are_not_taken(
    trained: Run, many_files: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "scores", many_files / "b" / "x.parquet"
    trained.predict_files(str(file), out)
    with pytest.raises(FileExistsError, match="scores of other jets or by another network"):
        trained.predict_files(str(file), out, checkpoint="last")
    write_jets(make_jets(30, seed=9), file, overwrite=True)
    with pytest.raises(FileExistsError, match="scores of other jets"):
        trained.predict_files(str(file), out)
    assert trained.predict_files(str(file), out, overwrite=True)[0].jets == 30
    with pytest.raises(InputError, match="is given twice"):
        trained.predict_files([str(file), str(file)], out)


def test_the_output_of_a_prediction_is_checked_before_it_starts(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*args: Any, **options: Any) -> Any:
        raise AssertionError("read jets in vain")

    monkeypatch.setattr(Clouds, "stream", unexpected)
    with pytest.raises(InputError, match=r"must end in \.parquet"):
        predict_file(trained, "jets.parquet", tmp_path / "scores.csv")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        predict_file(trained, "jets.parquet", tmp_path / "absent" / "scores.parquet")
    (tmp_path / "scores.parquet").write_text("precious")
    with pytest.raises(FileExistsError, match="exists already"):
        predict_file(trained, "jets.parquet", tmp_path / "scores.parquet")


def test_jets_without_the_columns_of_the_features_are_refused(
    jet_file: Path, tmp_path: Path
) -> None:
    number = int(ak.sum(ak.num(make_jets(200).p4)))
    write_jets(make_jets(200, charge=np.ones(number, dtype=int)), tmp_path / "charged.parquet")
    run = train(
        data=tmp_path / "charged.parquet",
        model="pfn",
        features=["log_pt", "charge"],
        epochs=1,
        batch_size=64,
        out=tmp_path / "run",
        progress=False,
    )
    with pytest.raises(InputError, match="need charge, which these jets do not have"):
        evaluate_run(run, str(jet_file))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run at"):
        Run(tmp_path / "absent")
    with pytest.raises(InputError, match="is not the folder of a run"):
        Run(tmp_path)


def test_a_run_without_a_finished_epoch_says_so(tmp_path: Path) -> None:
    options = {"data": "simulated", "model": "pfn", "out": str(tmp_path)}
    write_config(tmp_path, TrainConfig.from_dict(options))
    run = Run(tmp_path)
    assert not run.finished
    with pytest.raises(InputError, match=r"has no checkpoint 'best'.*continue it with"):
        run.model()


def test_a_run_on_stored_momenta_of_jets_refuses_jets_without(options, tmp_path):
    jets = make_jets(200)
    total = {c: 1.05 * ak.sum(jets.p4[c], axis=1) for c in ("E", "px", "py", "pz")}
    write_jets(ak.with_field(jets, ak.zip(total), "jet_p4"), tmp_path / "stored.parquet")
    run = train(**options | {"data": str(tmp_path / "stored.parquet")})
    assert run.feature_set.reference == "stored"
    assert run.predict(read_jets(tmp_path / "stored.parquet")[:5]).shape == (5, 2)
    with pytest.raises(InputError, match="need jet_p4, which these jets do not have"):
        run.predict(jets[:5])


def lists_of(jets: ak.Array, name: str) -> list[list[float]]:
    return jets.p4[name].to_list()


@pytest.fixture
def foreign_file(tmp_path: Path) -> tuple[Path, JetSchema]:
    """Parquet file of another layout with event numbers, one bad jet, and classes unknown to runs."""
    jets = make_jets(240, seed=4)
    columns: dict[str, Any] = {f"part_{q}": lists_of(jets, q) for q in ("E", "px", "py", "pz")}
    columns["part_E"][7][0] = float("nan")
    columns["flavour"] = [5, 0, 15] * 80
    columns["event"] = np.uint64(2**60) + np.arange(240, dtype=np.uint64)
    columns["jet_pt"] = np.linspace(10, 100, 240)
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table(columns), path)
    schema = JetSchema(
        p4={q: f"part_{q}" for q in ("E", "px", "py", "pz")},
        label="flavour",
        classes={"a": 5, "b": 0},
        event={"event": "event"},
        keep={"jet_pt": "jet_pt"},
        select="jet_pt > 10.5",
    )
    return path, schema


@pytest.mark.filterwarnings("ignore::pcloud.io.BadJetWarning", "ignore::pcloud.io.SelectionWarning")
def test_scores_go_back_to_the_jets_of_a_file_bit_by_bit(
    trained: Run, foreign_file: tuple[Path, JetSchema], tmp_path: Path
) -> None:
    path, schema = foreign_file
    out = tmp_path / "scores.parquet"
    found = predict_file(trained, str(path), out, schema=schema, on_bad_jet="drop")
    assert (found.jets, found.dropped) == (237, 3)
    table, source = pq.read_table(out), pq.read_table(path)
    entries = table["entry"].to_numpy()
    assert sorted(entries) == list(range(240))
    assert table["event"].type == pa.uint64()
    for name in ("event", "jet_pt"):
        assert table[name].take(np.argsort(entries)).equals(source[name])
    left_out = table.filter(table["reason"].is_valid())
    assert left_out["entry"].to_pylist() == [0, 1, 7]
    reasons = left_out["reason"].to_pylist()
    assert reasons == ["not selected", "not selected", "NaN or infinity in part_E"]
    assert left_out["score_a"].null_count == left_out["label"].null_count == 3
    scored = table.filter(table["reason"].is_null())
    flavour = np.tile([5, 0, 15], 80)[scored["entry"].to_numpy()]
    assert scored["label"].to_pylist() == [{5: 0, 0: 1, 15: None}[f] for f in flavour]
    assert scored["score_a"].null_count == 0
    jets = read_jets(path, replace(schema, label=None, classes=()), on_bad_jet="drop")
    assert scored["score_a"].to_numpy() == pytest.approx(trained.predict(jets)[:, 0], rel=1e-6)


def test_rows_of_several_files_have_their_names(
    trained: Run, many_files: Path, tmp_path: Path
) -> None:
    files = [str(many_files / name) for name in ("b/x.parquet", "a/x.npz")]
    out = tmp_path / "scores.parquet"
    predict_file(trained, files, out, chunk_size=15)
    table = pq.read_table(out)
    assert table["file"].to_pylist() == [files[0]] * 22 + [files[1]] * 21
    assert table["entry"].to_pylist() == [*range(22), *range(21)]


@pytest.mark.filterwarnings("ignore::pcloud.io.BadJetWarning", "ignore::pcloud.io.SelectionWarning")
def test_files_are_read_by_the_schema_of_the_run(
    foreign_file: tuple[Path, JetSchema], tmp_path: Path
) -> None:
    path, schema = foreign_file
    run = train(
        data=str(path),
        schema=replace(schema, label="flavour", classes={"a": [5, 15], "b": 0}),
        model=TINY,
        out=tmp_path / "run",
        epochs=1,
        batch_size=8,
        on_bad_jet="drop",
        progress=False,
    )
    out = tmp_path / "scores.parquet"
    assert run.predict_file(str(path), out, on_bad_jet="drop").jets == 237
    native = tmp_path / "native.parquet"
    write_jets(make_jets(10), native)
    assert run.predict_file(str(native), out, overwrite=True).jets == 10
    run.evaluate(num_bootstrap=0)
    rows = pq.read_table(run.path / "scores.parquet")
    assert {"entry", "event", "jet_pt", "label", "score_a"} <= set(rows.column_names)
    events = pq.read_table(path)["event"].take(rows["entry"].to_numpy())
    assert rows["event"].to_pylist() == events.to_pylist()
