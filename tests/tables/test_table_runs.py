"""Tables through the same commands as jets."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.nn.activations import ACTIVATIONS, hidden_layers
from pcloud.report import write_report
from pcloud.studies.attribution import read_attribution
from pcloud.studies.baselines import boosted_trees, compare_with_trees
from pcloud.studies.taylor import read_taylor
from pcloud.tables import Table
from pcloud.tables.modality import IdentifierWarning
from pcloud.tables.toys import gaussians
from pcloud.training.data import load_splits


def write(path, number=1500, seed=0):
    """Events whose class is the sign of x1 * x2, with a column of noise, one of numbers, weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(number, 3))
    label = np.where(x[:, 0] * x[:, 1] > 0, "s", "b")
    x[rng.random(number) < 0.05, 2] = -999
    rows = zip(
        range(number), *x.T.round(5).tolist(), rng.uniform(0.5, 2, number), label, strict=True
    )
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["EventId,x1,x2,noise,Weight,Label", *lines]))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("tables") / "events.csv")
    options = {"epochs": 12, "batch_size": 64, "lr": 1e-2, "progress": False}
    schema = {"keep": ["EventId"]}
    run = pcloud.train(
        data=file, model="mlp", model_options={"widths": [32]}, schema=schema,
        out=file.parent / "run", keep_checkpoints=False, **options,
    )  # fmt: skip
    run.evaluate(num_bootstrap=0)
    return run


def test_a_network_learns_a_table(run):
    assert run.classes == ["b", "s"]
    assert run.feature_set.names == ("x1", "x2", "noise")
    assert run.history[-1]["val_acc"] > 0.88
    table = pq.read_table(run.path / "scores.parquet")
    assert {"EventId", "entry", "weight", "label"} <= set(table.column_names)


def test_results_speak_of_events(run, capsys):
    assert run.evaluate(num_bootstrap=0).notes[0].startswith("158 events: ")
    assert main(["uncertainty", str(run.path)]) == 0
    assert main(["calibrate", str(run.path)]) == 0
    printed = capsys.readouterr().out
    assert "test events" in printed
    assert "jet" not in printed


def test_a_table_is_inspected_before_its_training(tmp_path, capsys):
    file = write(tmp_path / "events.csv", 200)
    assert main(["inspect", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "b, s" in printed
    assert "--schema.label Label --schema.weight Weight" in printed
    assert main(["train", "--data", str(file), "--model", "pfn", "--out", str(tmp_path / "r")]) == 2
    assert "for networks on tables: --model logistic, mlp" in capsys.readouterr().err


def test_scores_depend_on_the_columns_alone_whatever_their_order(run):
    columns = {"x1": [1.0, -1.0], "x2": [1.5, 1.5], "noise": [0.0, np.nan]}
    scores = run.predict(Table(columns=columns))
    assert scores[0, 1] > 0.8 > 0.2 > scores[1, 1]
    swapped = {name: columns[name] for name in ("noise", "x2", "x1")} | {"more": [0, 0]}
    np.testing.assert_array_equal(run.predict(swapped), scores)
    with pytest.raises(InputError, match=r"features need x2.*did you mean"):
        run.predict({"x1": [1.0], "x2_": [1.0], "noise": [0.0]})


def test_every_study_and_the_report_take_tables(run, capsys):
    assert main(["calibrate", str(run.path)]) == 0
    assert run.predict(Table(columns={n: [0.1] for n in run.feature_set.names})).shape == (1, 2)
    assert main(["uncertainty", str(run.path), "--samples", "3"]) == 0
    scores = run.path.parent / "scores.parquet"
    command = ["predict", str(run.path), str(run.path.parent / "events.csv"), "-o", str(scores)]
    assert main([*command, "--quiet"]) == 0
    assert pq.read_table(scores).num_rows == 1500
    assert main(["explain", str(run.path), "--method", "taylor", "saliency", "occlusion"]) == 0
    printed = capsys.readouterr().out
    assert "x1, x2" in printed
    coefficients = read_taylor(run.path).classes["s"].parts["all"]
    assert coefficients["x1, x2"].value > 5 * coefficients["noise"].value
    assert all("noise" in name for name in list(coefficients)[-4:])
    (found,) = read_attribution(run.path).classes
    for shares in found.shares.values():
        assert min(shares, key=shares.__getitem__) == "noise"
    with pytest.raises(InputError, match="networks on jets"):
        run.robustness()


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_the_columns(run):
    run.explain("taylor")
    run.explain(["saliency", "integrated_gradients"])
    page = write_report(run.path).read_text()
    assert "standard deviation in the training events" in page
    assert "attributed to the columns of" in page
    assert (run.path / "figures" / "taylor_0.png").exists()


def test_integrated_gradients_are_complete(run):
    (found,) = run.explain("integrated_gradients").classes
    method = found.methods["integrated_gradients"]
    assert method["gap"] < 0.01 * method["change"]


def test_boosted_trees_are_the_baseline_of_a_comparison(run, capsys):
    trees = boosted_trees(run)
    found = compare_with_trees(run)
    assert found.names == ["run", "boosted trees"]
    auc = found.effects[1][0].auc
    assert auc.value == pytest.approx(
        pcloud.evaluate(trees.labels, trees.values, weights=trees.weights)["auc"].value
    )
    assert main(["evaluate", str(run.path), "--baseline", "--bootstrap", "0"]) == 0
    assert "boosted trees" in capsys.readouterr().out


def test_logistic_regression_agrees_with_that_of_scikit_learn(tmp_path):
    table = gaussians(2000, shift=1.0, seed=1)
    options = {"epochs": 20, "batch_size": 200, "lr": 0.05, "weight_decay": 0.0, "progress": False}
    run = pcloud.train(data=table, model="logistic", out=tmp_path / "a", **options)
    other = gaussians(1000, shift=1.0, seed=2)
    (train,) = load_splits(run.config, "train")
    line = LogisticRegression(C=1e6).fit(train.content(), train.label)
    expected = line.predict_proba(other.content())
    np.testing.assert_allclose(run.predict(other, checkpoint="last"), expected, atol=0.02)


@pytest.mark.usefixtures("undrawn")
def test_a_quantity_is_learned_and_measured(tmp_path):
    options = {"epochs": 10, "batch_size": 32, "lr": 0.02, "progress": False}
    run = pcloud.train(data="curve", model="mlp", objective="y:gaussian", out=tmp_path, **options)
    found = run.evaluate(num_bootstrap=0)
    assert found["y.resolution"].value < 0.4
    run.calibrate()
    assert write_report(run.path).exists()


def test_what_cannot_be_learned_is_refused_before_a_training(tmp_path):
    def message(text, **options):
        (tmp_path / "a.csv").write_text(text)
        common = {"data": str(tmp_path / "a.csv"), "model": "mlp", "out": str(tmp_path / "run")}
        with pytest.raises(InputError) as error:
            pcloud.train(**common | options, progress=False)
        assert not (tmp_path / "run" / "checkpoints").exists()
        return str(error.value)

    rows = [f"{x:.3f},{i % 2},2\n" for i, x in enumerate(np.random.default_rng(1).normal(size=60))]
    text = "".join(["a,y,c\n", *rows])
    assert "no column of numbers named 'b'" in message(text, features=["b"])
    assert "single value of c" in message(text)
    assert "have no labels; their columns are a, z, c" in message(text.replace("y", "z", 1))
    assert "'labl'" in message(text, schema={"label": "labl"})
    one = "".join(["a,y\n", *(f"{i},1\n" for i in range(60))])
    assert "at least two" in message(one)
    assert "is for jets" in message(text, jet_features=["jet_mass"])
    assert "the network takes table" in message(text, data="simulated")
    assert "events have no mass" in message(text, features=["a"], decorrelate="mass")


def test_the_schema_is_given_item_by_item_on_the_command_line(tmp_path, capsys):
    file = write(tmp_path / "a.csv", 200)
    command = ["train", "--data", str(file), "--model", "logistic", "--epochs", "1", "--quiet"]
    command += ["--features", "x1", "x2", "--out", str(tmp_path / "run")]
    classes = ["--schema.label", "Label", "--schema.classes", "{signal: s, background: b}"]
    assert main([*command, *classes]) == 0
    assert pcloud.Run(tmp_path / "run").classes == ["signal", "background"]
    assert main([*command, "--schema", "landscape", *classes]) == 2
    assert "item of a mapping" in capsys.readouterr().err


def test_numbers_of_events_are_no_inputs(tmp_path):
    file = write(tmp_path / "a.csv", 200)
    with pytest.warns(IdentifierWarning, match="they number the events: EventId"):
        run = pcloud.train(
            data=file, model="logistic", out=tmp_path / "a", epochs=1, progress=False,
            steps=None, batch_size=32, lr=0.1,
        )  # fmt: skip
    assert "EventId" not in run.feature_set.names


def test_selu_keeps_mean_and_width_and_every_activation_trains():
    torch.manual_seed(0)
    x = torch.randn(2000, 50)
    deep = torch.nn.Sequential(*hidden_layers([50] * 20, "selu", 0.05))
    assert 0.8 < deep(x).std() < 1.2
    assert abs(deep(x).mean()) < 0.1
    for name in ACTIVATIONS:
        model = pcloud.build_model("mlp", 3, 2, widths=[8, 4], activation=name, dropout=0.1)
        model(torch.randn(5, 3)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    maxout = hidden_layers([3, 4], "maxout")[0]
    parts = maxout.linear(x[:, :3]).view(-1, 2, 4)
    torch.testing.assert_close(maxout(x[:, :3]), torch.maximum(parts[:, 0], parts[:, 1]))
    with pytest.raises(InputError, match="did you mean 'relu'"):
        pcloud.build_model("mlp", 3, activation="rel")
