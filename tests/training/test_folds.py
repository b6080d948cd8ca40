"""Cross-validation: folds share the jets out, and their scores are merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest

from pcloud import Run, train
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation import evaluate, read_metrics, read_scores
from pcloud.io import write_jets
from pcloud.keys import in_split
from pcloud.report import write_report
from pcloud.studies.comparison import RunComparison
from pcloud.studies.folds import check_folds, merge_folds
from pcloud.training import TrainConfig
from pcloud.training.data import iter_split, load_splits
from pcloud.training.folds import Fold
from tests.training.conftest import TINY, make_jets

TINY_TRAINING = {"model": TINY, "epochs": 1, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def folds(jet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Runs of the three folds of 500 jets."""
    out = tmp_path_factory.mktemp("folds")
    options = {"data": jet_file, **TINY_TRAINING}
    return [train(**options, out=out / f"fold{i}", fold=f"{i}/3") for i in (1, 2, 3)]


@pytest.mark.parametrize("number", [2, 3, 7])
def test_folds_share_the_jets_out(number: int) -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    fractions = {"train": 0.9 - 1 / number, "val": 0.1, "test": 1 / number}
    tested = np.zeros(len(keys), dtype=int)
    for i in range(1, number + 1):
        part = Fold(i, number).numbers
        masks = {s: in_split(keys, s, fractions, 5, part) for s in fractions}
        assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
        assert masks["val"].mean() == pytest.approx(0.1, abs=0.01)
        assert masks["test"].mean() == pytest.approx(1 / number, abs=0.02)
        tested += masks["test"]
    assert (tested == 1).all()


def test_the_extreme_numbers_are_in_one_fold_each(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [Fold(i, 3).numbers[0] for i in (1, 2, 3)]
    numbers = np.array([0, *(e + d for e in edges[1:] for d in (-1, 0)), 2**64 - 1], np.uint64)
    monkeypatch.setattr("pcloud.keys.shuffled", lambda keys, purpose, seed: keys.copy())
    fractions = {"train": 0.5, "val": 1 / 6, "test": 1 / 3}
    found = [in_split(numbers, "test", fractions, 0, Fold(i, 3).numbers) for i in (1, 2, 3)]
    assert [mask.nonzero()[0].tolist() for mask in found] == [[0, 1], [2, 3], [4, 5]]


def test_the_last_fold_is_the_split_without_folds() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    fractions = {"train": 0.7, "val": 0.1, "test": 0.2}
    for split in fractions:
        plain = in_split(keys, split, fractions)
        np.testing.assert_array_equal(
            in_split(keys, split, fractions, 0, Fold(5, 5).numbers), plain
        )


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "a", "1/0", "-1/2", "1.5/3", "", "1/2/3"])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 2/5"):
        Fold.parse(text)


def test_a_configuration_with_a_fold_is_checked(jet_file: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": str(jet_file), "model": TINY, "out": str(tmp_path / "run")}
    assert TrainConfig(**options, fold="2/5").fold == "2/5"
    for other in ({"val": str(jet_file)}, {"test": str(jet_file)}, {"split": "permutation"}):
        with pytest.raises(InputError, match="fold"):
            TrainConfig(**options, fold="2/5", **other)
    with pytest.raises(InputError, match="val_fraction and fold 1/2 leave no jets"):
        TrainConfig(**options, fold="1/2", val_fraction=0.5)
    with pytest.raises(InputError, match="has the splits train, val, test: give its files"):
        load_splits(TrainConfig(**options | {"data": "simulated"}, fold="1/2"), "train")


def test_jets_of_an_event_stay_in_one_fold(tmp_path: Path) -> None:
    jets = make_jets(600, seed=3)
    jets["number"] = np.arange(600) // 3
    write_jets(jets, tmp_path / "jets.parquet")
    schema = {"event": {"event": "number"}}
    events = []
    for i in (1, 2, 3):
        config = TrainConfig(
            data=str(tmp_path / "jets.parquet"), schema=schema, model=TINY, out="x", fold=f"{i}/3"
        )
        train_jets, test = load_splits(config, "train", "test")
        found = set(ak.to_numpy(test.event).tolist())
        assert not found & set(ak.to_numpy(train_jets.event).tolist())
        assert len(test) == 3 * len(found)
        chunks = [chunk.event for chunk in iter_split(config, "test", 7)]
        np.testing.assert_array_equal(np.concatenate(chunks), test.event)
        events += sorted(found)
    assert sorted(events) == list(range(200))


def test_scores_of_all_folds_are_merged(folds: list[Run], tmp_path: Path) -> None:
    table = merge_folds(folds[::-1], tmp_path / "all", num_bootstrap=20)
    merged = pq.read_table(tmp_path / "all" / "scores.parquet")
    assert merged["entry"].to_pylist() == list(range(500))  # each jet once
    jets = make_jets(500)
    np.testing.assert_array_equal(merged["label"], jets.label)
    for i, run in enumerate(folds, 1):
        rows = np.flatnonzero(merged["fold"].to_numpy() == i)
        np.testing.assert_allclose(
            merged["score_b"].to_numpy()[rows], run.predict(jets[rows])[:, 1]
        )
        assert len(pq.read_table(run.path / "scores.parquet")) == len(rows)
    scores = read_scores(tmp_path / "all" / "scores.parquet")
    expected = evaluate(scores.labels, scores.values, classes=scores.classes, num_bootstrap=0)
    assert (
        table["auc"].value == read_metrics(tmp_path / "all")["auc"].value == expected["auc"].value
    )
    assert table["auc"].error > 0
    assert (tmp_path / "all" / "figures" / "roc.png").exists()


def test_only_all_folds_of_the_same_jets_are_merged(
    folds: list[Run], jet_file: Path, tmp_path: Path
) -> None:
    assert check_folds(folds) == [Fold(i, 3) for i in (1, 2, 3)]
    with pytest.raises(InputError, match=r"each of the folds 1 to 3 once, got 1, 2$"):
        check_folds(folds[:2])
    with pytest.raises(InputError, match="got 1, 1, 2"):
        check_folds([folds[0], folds[0], folds[1]])
    write_jets(make_jets(500, seed=9), tmp_path / "others.parquet")
    others = {
        "is no fold": {"data": jet_file},
        "is fold 3/4": {"data": jet_file, "fold": "3/4"},
        "split_seed 0, but": {"data": jet_file, "fold": "3/3", "split_seed": 1},
        "on other jets than": {"data": tmp_path / "others.parquet", "fold": "3/3"},
    }
    for i, (text, options) in enumerate(others.items()):
        other = train(**options, **TINY_TRAINING, out=tmp_path / str(i))
        with pytest.raises(InputError, match=text):
            check_folds([*folds[:2], other])


def test_a_run_is_continued_in_its_fold_only(jet_file: Path, tmp_path: Path) -> None:
    options = {"data": jet_file, **TINY_TRAINING, "out": tmp_path / "run", "ensemble": 2}
    train(**options, fold="1/2")
    run = train(**options, fold="1/2")
    assert run.config.fold == "1/2"
    assert len(run.members) == 2
    with pytest.raises(InputError, match="fold '1/2' is now '2/2'"):
        train(**options, fold="2/2")


def test_the_command_merges_folds(
    folds: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(run.path) for run in folds]
    assert main(["evaluate", *paths, "--merge", str(tmp_path / "all"), "--bootstrap", "10"]) == 0
    assert f"written to {tmp_path / 'all'}" in "".join(capsys.readouterr())
    assert main(["evaluate", *paths[:2], "--merge", str(tmp_path / "all")]) == 2
    assert "each of the folds 1 to 3 once" in capsys.readouterr().err
    assert main(["evaluate", *paths, "--merge", "x", "--robustness"]) == 2
    assert "--robustness is not for --merge" in capsys.readouterr().err


def test_the_comparison_of_runs_is_written_where_asked(
    jet_file: Path, tmp_path: Path, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for seed, path in enumerate(paths):
        train(data=jet_file, **TINY_TRAINING, out=path, seed=seed)
    out = tmp_path / "compared"
    assert main(["evaluate", *paths, "--out", str(out), "--bootstrap", "10"]) == 0
    assert f"written to {out / 'comparison.csv'}" in capsys.readouterr().out
    assert RunComparison.read(out).names == ["a", "b"]
    files = ["comparison.csv", "figures/roc_comparison.png", "a/scores.parquet", "b/metrics.json"]
    assert all((out / file).exists() for file in files)
    assert not (tmp_path / "a" / "scores.parquet").exists()
    shutil.copy(out / "comparison.json", paths[0])
    page = write_report(paths[0]).read_text("utf-8")
    assert "Comparison with other runs" in page
