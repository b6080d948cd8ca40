"""Names of evaluations and comparisons, and results outside the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcloud import Run, train
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation import read_scores
from pcloud.io import write_jets
from pcloud.studies.evaluate import evaluate_run, evaluation_folder
from pcloud.studies.names import absolute_sources, check_name, free_name, readable_name
from tests.conftest import only_transformations
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def trained(jet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("trained") / "run"
    options = {"data": jet_file, "model": TINY, "epochs": 2, "batch_size": 64}
    return train(**options, out=out, progress=False)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Path]]:
    """Two files of the same name, with 60 and 80 jets."""
    paths = [tmp_path / folder / "test.parquet" for folder in ("a", "b")]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        write_jets(make_jets(60 + 20 * i, seed=i), path)
    return paths


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/x", "..", ".", ".x", "", " ", "a*", "x?", "[x]", "a\\b", "a\0", "a\n"]
)
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        check_name(name)


def test_a_plain_word_is_a_name() -> None:
    for name in ("test", "QCD 1-2 TeV", "größer", "a.b_c"):
        assert check_name(name) == name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("simulated", "simulated"),
        ("x/jets.h5", "jets"),
        (["x/jets.h5", "y.h5"], "jets"),
        ("x/*.root", "x"),
        ("run[12]/*/*.root", "run_12"),
        ("sample_?.root", "sample"),
        ("/**/*", "jets"),
    ],
)
def test_a_name_has_no_characters_of_patterns(source: str | list[str], name: str) -> None:
    assert readable_name(source) == name


def test_a_taken_name_gets_a_digest_of_the_inputs() -> None:
    taken = {"x": {"data": 1}}
    assert free_name("x", {"data": 1}, taken.get) == "x"
    assert free_name("y", {"data": 2}, taken.get) == "y"
    other = free_name("x", {"data": 2}, taken.get)
    assert other.startswith("x-")
    assert other == free_name("x", {"data": 2}, taken.get) != free_name("x", {"data": 3}, taken.get)
    with pytest.raises(InputError, match="with other data: give another name"):
        free_name("x", {"data": 2}, taken.get, is_given=True)


def test_data_sets_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_sources("simulated") == ["simulated"]
    assert absolute_sources(["a.h5", "*.h5"]) == [str(tmp_path / "a.h5"), str(tmp_path / "*.h5")]


def test_evaluations_of_other_files_never_share_a_folder(trained: Run, files: list[Path]) -> None:
    folders = [evaluation_folder(trained, str(files[0]))]
    evaluate_run(trained, str(files[0]), metrics={"num_bootstrap": 0})
    folders.append(evaluation_folder(trained, str(files[1])))
    evaluate_run(trained, str(files[1]), metrics={"num_bootstrap": 0})
    assert len(set(folders)) == 2
    for folder, number in zip(folders, (60, 80), strict=True):
        assert folder.parent == trained.path / "evaluations"
        assert len(read_scores(folder / "scores.parquet").labels) == number
        assert folder == evaluation_folder(trained, str(files[(number - 60) // 20]))
    others = [
        evaluation_folder(trained, str(files[0]), checkpoint="last"),
        evaluation_folder(trained, [str(file) for file in files]),
        evaluation_folder(trained, str(files[0]), schema="jetclass"),
        evaluation_folder(trained, split="val"),
        evaluation_folder(trained, split="val", checkpoint="last"),
    ]
    assert len({*folders, *others, trained.path}) == 8
    pattern = evaluation_folder(trained, str(files[0].parent / "*.parquet"))
    assert pattern.name == "a"


def test_the_same_inputs_from_another_folder_replace_the_result(
    trained: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_run(trained, str(files[0]), name="again", metrics={"num_bootstrap": 0})
    monkeypatch.chdir(files[0].parent)
    found = evaluation_folder(trained, "test.parquet", name="again")
    assert found == trained.path / "evaluations" / "again"
    with pytest.raises(InputError, match="other data: give another name"):
        evaluate_run(trained, str(files[1]), name="again")
    with pytest.raises(InputError, match="other split"):
        evaluate_run(trained, str(files[0]), split="val", name="again")


def test_an_evaluation_of_an_earlier_version_is_not_replaced(
    trained: Run, files: list[Path]
) -> None:
    old = trained.path / "evaluations" / "old"
    old.mkdir(parents=True)
    path = files[0].rename(files[0].with_name("old.parquet"))
    assert evaluation_folder(trained, str(path)).name.startswith("old-")


def test_the_command_refuses_a_name_outside_the_run(
    trained: Run, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(trained.path), "--data", str(files[0]), "--name", "../../x"]
    assert main(words) == 2
    assert "cannot be the name" in capsys.readouterr().err
    assert not (trained.path.parent / "x").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("undrawn")
def test_all_results_can_be_written_to_another_folder(
    trained: Run, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(trained.path), tmp_path / "results" / "of the run"
    before = contents(trained.path)
    first, second = map(str, files)
    compare = ["--classifier", "logistic", "--permutations", "9", "--run", run]
    robust = ["--robustness", "--robustness-jets", "40"]
    with only_transformations("rotation"):
        assert main(["evaluate", run, "--bootstrap", "0", *robust, "--out", str(out)]) == 0
    for words in (
        ["evaluate", run, "--bootstrap", "0", "--data", second],
        ["calibrate", run],
        ["uncertainty", run, "--samples", "2", "-q"],
        ["explain", run, "--method", "occlusion", "--jets", "2", "-q"],
        ["compare", first, second, *compare],
        ["report", run],
    ):
        assert main([*words, "--out", str(out)]) == 0, words
    capsys.readouterr()
    found = {path for path in contents(out) if not path.startswith("figures/")}
    assert found == {
        *("scores.parquet", "metrics.json", "evaluation.json", "robustness.json"),
        *(f"evaluations/test/{n}" for n in ("scores.parquet", "metrics.json", "evaluation.json")),
        *("calibration.json", "uncertainty.json", "uncertainty.parquet", "attribution.json"),
        *("shift/test_test.json", "shift/test_test.png", "report.html"),
    }
    page = (out / "report.html").read_text("utf-8")
    for title in ("Calibration", "Uncertainty", "Attribution", "Robustness", "Other samples"):
        assert f"<h2>{title}" in page
    words = ["predict", run, first, "--calibrated", "-q", "-o", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"scores of 60 jets: {out}\n"
    assert (out / f"{Path(first).stem}.parquet").exists()
    assert contents(trained.path) == before


@pytest.mark.usefixtures("undrawn")
def test_methods_of_a_run_write_to_another_folder(trained: Run, tmp_path: Path) -> None:
    before = contents(trained.path)
    out = tmp_path / "results"
    trained.evaluate(num_bootstrap=0, out=out)
    trained.calibrate(out=out)
    trained.explain("occlusion", jets=2, out=out)
    assert trained.report(out) == out / "report.html"
    assert trained.writing_to(out).predict(make_jets(3), calibrated=True).shape == (3, 2)
    assert json.loads((out / "evaluation.json").read_text())["inputs"]["data"] is None
    assert contents(trained.path) == before
    assert trained.out == trained.path
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        trained.evaluate(out=tmp_path / "file" / "results")
