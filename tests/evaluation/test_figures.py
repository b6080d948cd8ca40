from __future__ import annotations

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import roc_curve

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation import Measured, Scores, evaluate
from pcloud.evaluation.calibration import Reliability
from pcloud.evaluation.figures import (
    confusion_figure,
    confusion_matrix,
    reliability_figure,
    roc_figure,
    save_figure,
    score_figure,
    training_figure,
)
from pcloud.training.history import History


@pytest.fixture
def sample(tagger) -> Scores:
    labels, scores = tagger.draw(1500, 2500, np.random.default_rng(0))
    return Scores.from_arrays(labels, np.stack([1 - scores, scores], axis=1), ["qcd", "top"])


@pytest.fixture
def many() -> Scores:
    generator = np.random.default_rng(1)
    labels = np.arange(900) % 3
    logits = generator.normal(size=(900, 3)) + 2 * np.eye(3)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Scores.from_arrays(labels, scores, ["QCD", "Hbb", "Tbl"])


@pytest.fixture
def history() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    epochs = np.arange(5.0)
    return {
        "train_loss": (epochs, np.array([5.0, 4, 3, 2, 1])),
        "val_loss": (epochs, np.array([5.0, 3, 2, 3, 4])),
        "val_auc": (epochs, np.array([0.5, 0.7, 0.9, 0.8, 0.8])),
        "lr": (epochs, np.full(5, 1e-3)),
        "jets_per_s": (epochs, np.full(5, 1e3)),
    }


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return found + [t.get_text() for legend in legends if legend for t in legend.get_texts()]


def line(axes: Axes, label: str) -> np.ndarray:
    return next(line.get_xydata() for line in axes.lines if line.get_label() == label)


# --- ROC


def test_roc_line_is_the_curve_of_scikit_learn(sample: Scores):
    (axes,) = panels(roc_figure(sample))
    x, y = line(axes, "top").T
    fpr, tpr, _ = roc_curve(sample.labels, sample.values[:, 1], drop_intermediate=False)
    between = ~np.isclose((x * 1500) % 1, 0) & np.isfinite(y)  # off the corners
    assert between.sum() > 10
    np.testing.assert_allclose(1 / y[between], np.interp(x[between], tpr, fpr))
    assert axes.get_yscale() == "log"


def test_roc_is_labelled_with_the_numbers_of_the_table(sample: Scores):
    figure = roc_figure(sample, efficiencies=[0.7])
    table = evaluate(sample.labels, sample.values, efficiencies=[0.7], num_bootstrap=0)
    assert any(text.startswith(str(table["rejection@0.7"])) for text in texts(figure))
    assert f"AUC {table['auc']}" in texts(figure)
    (axes,) = panels(figure)
    assert "top efficiency" in axes.get_xlabel()
    assert "rejection of qcd" in axes.get_ylabel()


def test_roc_marks_an_upper_limit_where_no_signal_jet_fails(sample: Scores):
    figure = roc_figure(sample, efficiencies=[0.9999])
    assert any(text.startswith("< ") for text in texts(figure))
    figure.canvas.draw()


def test_roc_band_surrounds_the_curve(sample: Scores):
    (axes,) = panels(roc_figure(sample, num_bootstrap=60))
    (band,) = axes.collections[:1]
    vertices = band.get_paths()[0].vertices
    for efficiency in (0.5, 0.8):
        near = vertices[np.isclose(vertices[:, 0], efficiency)][:, 1]
        at = np.argmin(np.abs(line(axes, "top")[:, 0] - efficiency))
        assert near.min() < line(axes, "top")[at, 1] < near.max()


def test_roc_of_many_classes_has_a_line_each_best_first(many: Scores):
    for options in ({}, {"background": "QCD"}):
        figure = roc_figure(many, **options)
        names = [text for text in texts(figure) if text in many.classes]
        table = evaluate(many.labels, many.values, classes=many.classes, **options)
        suffix = " vs QCD" if options else ""
        expected = {c: table[f"rejection@0.5[{c}{suffix}]"] for c in names}
        assert set(names) == set(many.classes) - ({"QCD"} if options else set())
        values = [1e9 if entry.limit else entry.value for entry in expected.values()]
        assert values == sorted(values, reverse=True)


def test_perfect_tagger_has_a_roc_figure():
    labels = np.repeat([0, 1], 20)
    figure = roc_figure(Scores.from_arrays(labels, labels * 0.6 + 0.2))
    assert any(text.startswith("> ") for text in texts(figure))


def test_taggers_share_a_figure_with_the_ratios_of_their_rejections(sample: Scores):
    generator = np.random.default_rng(0)
    noisy = sample.values[:, 1] + generator.normal(0, 0.2, len(sample.labels))
    taggers = {"net": sample, "cut": Scores.from_arrays(sample.labels, noisy, sample.classes)}
    figure = roc_figure(taggers, num_bootstrap=20)
    axes, ratio = panels(figure)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    tables = [evaluate(s.labels, s.values, num_bootstrap=0) for s in taggers.values()]
    assert names == [f"{n} (AUC {t['auc']})" for n, t in zip(taggers, tables, strict=True)]
    first, second = (line(axes, name) for name in names)
    x, y = ratio.lines[1].get_xydata().T
    at = np.searchsorted(first[:, 0], x)
    np.testing.assert_allclose(y, second[at, 1] / first[at, 1])
    assert (x > 0.9).any()
    np.testing.assert_array_equal(ratio.lines[0].get_ydata(), 1)
    assert ratio.get_ylabel() == "ratio to net"


def test_a_tagger_has_no_uncertain_ratio_to_itself(sample: Scores):
    _, ratio = panels(roc_figure({"one": sample, "two": sample}, num_bootstrap=20))
    np.testing.assert_array_equal(ratio.lines[1].get_ydata(), 1)
    (band,) = ratio.collections
    np.testing.assert_array_equal(band.get_paths()[0].vertices[:, 1], 1)


def test_taggers_of_many_classes_need_a_signal(many: Scores):
    with pytest.raises(InputError, match="name the signal"):
        roc_figure({"one": many})
    figure = roc_figure({"one": many}, signal="Hbb", background="QCD", num_bootstrap=2)
    axes, ratio = panels(figure)
    assert "Hbb efficiency" in ratio.get_xlabel()
    assert "rejection of QCD" in axes.get_ylabel()
    with pytest.raises(InputError, match="no tagger"):
        roc_figure({})


# --- scores


def test_score_histogram_holds_the_fractions_of_each_class(sample: Scores):
    (axes,) = panels(score_figure(sample))
    steps = [patch for patch in axes.patches if not patch.get_fill()]
    assert len(steps) == 2
    for c, step in enumerate(steps):
        fraction, edges, _ = step.get_data()
        expected, _ = np.histogram(sample.values[sample.labels == c, 1], edges)
        np.testing.assert_allclose(fraction, expected / np.sum(sample.labels == c))
        assert fraction.sum() == pytest.approx(1)


def test_each_of_many_classes_has_a_panel(many: Scores):
    assert [axes.get_title(loc="left") for axes in panels(score_figure(many))] == [
        "QCD",
        "Hbb",
        "Tbl",
    ]


def test_scores_need_not_be_probabilities(sample: Scores):
    values = 40 * sample.values[:, 1] - 20
    (axes,) = panels(score_figure(Scores.from_arrays(sample.labels, values)))
    assert axes.get_xlim() == (values.min(), values.max())


# --- confusion


@pytest.mark.parametrize("normalise", [None, "true", "predicted"])
def test_confusion_matrix_is_that_of_scikit_learn(many: Scores, normalise: str | None):
    expected = sklearn_confusion_matrix(
        many.labels,
        many.values.argmax(axis=1),
        normalize={None: None, "true": "true", "predicted": "pred"}[normalise],
    )
    np.testing.assert_allclose(confusion_matrix(many, normalise), expected)  # type: ignore[arg-type]


def test_confusion_figure_writes_every_cell(many: Scores):
    counts = confusion_matrix(many)
    written = [text for text in texts(confusion_figure(many)) if text]
    assert written == [str(number) for number in counts.ravel()]
    fraction = confusion_matrix(many, "true")[0, 0]
    error = Measured.fraction(counts[0, 0], 300).error
    first = texts(confusion_figure(many, "true"))[0]
    assert first == f"{100 * fraction:.1f}\n± {100 * error:.1f}"


def test_percentages_of_a_separated_sample_are_limits(many: Scores):
    perfect = Scores.from_arrays([0] * 50 + [1] * 50, np.repeat([0.1, 0.9], 50))
    written = texts(confusion_figure(perfect, "true"))
    assert written[:4] == ["> 94.1", "< 5.9", "< 5.9", "> 94.1"]


def test_classes_never_predicted_have_no_purity():
    scores = Scores.from_arrays([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4])
    assert np.isnan(confusion_matrix(scores, "predicted")[:, 1]).all()
    assert texts(confusion_figure(scores, "predicted")).count("none") == 2


# --- training


def test_training_curves_are_drawn_and_the_best_epoch_marked(history: dict):
    figure = training_figure(history)
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["loss", "AUC", "learning rate"]
    loss, auc, _ = panels(figure)
    np.testing.assert_array_equal(line(loss, "training")[:, 1], history["train_loss"][1])
    np.testing.assert_array_equal(line(loss, "validation")[:, 1], history["val_loss"][1])
    for axes in (loss, auc):
        assert axes.lines[-1].get_xdata() == [2]


def test_training_without_curves_is_refused():
    with pytest.raises(InputError, match="no training curve"):
        training_figure({"seconds": (np.arange(2.0), np.arange(2.0))})


def test_a_single_epoch_is_drawn():
    one = np.array([0.0]), np.array([0.7])
    training_figure({"train_loss": one, "val_loss": one, "lr": one})
    training_figure({"train_loss": one, "lr": (one[0], np.array([0.0]))})  # a schedule's end


def test_one_axes_shows_one_quantity(history: dict):
    axes = Figure().subplots()
    with pytest.raises(InputError, match="one quantity"):
        training_figure(history, ax=axes)
    with pytest.raises(UnknownNameError, match="did you mean 'loss'"):
        training_figure(history, quantities=["los"])
    training_figure(history, quantities=["AUC"], ax=axes)
    np.testing.assert_array_equal(line(axes, "validation")[:, 1], history["val_auc"][1])


# --- reliability


def test_a_reliability_diagram_shows_the_frequency_in_each_bin(sample: Scores):
    figure = reliability_figure(sample.labels, {"raw": sample.values}, classes=sample.classes)
    diagram, difference, counts = panels(figure)
    x, frequency, _ = Reliability.of(sample.values[:, 1], sample.labels == 1).points()
    for axes, expected in ((diagram, frequency), (difference, frequency - x)):
        np.testing.assert_allclose(axes.containers[0].lines[0].get_ydata(), expected)
    assert counts.get_yscale() == "log"


# --- all


def test_figures_are_drawn_in_the_axes_of_the_caller(sample: Scores, many: Scores, history: dict):
    figure = Figure()
    axes = list(figure.subplots(2, 4).flat)
    found = [
        roc_figure(sample, num_bootstrap=5, ax=axes[0]),
        roc_figure(many, num_bootstrap=5, ax=axes[1]),
        roc_figure({"one": sample, "two": sample}, num_bootstrap=5, ax=axes[2]),
        score_figure(sample, ax=axes[3]),
        score_figure(many, signal="Hbb", ax=axes[4]),
        confusion_figure(many, ax=axes[5]),
        reliability_figure(many.labels, {"raw": many.values}, classes=many.classes, ax=axes[6]),
        training_figure(history, quantities=["loss"], ax=axes[7]),
    ]
    assert all(each is figure for each in found)
    assert figure.axes == axes
    assert not figure.legends
    assert all(each.has_data() for each in axes)
    figure.draw_without_rendering()
    with pytest.raises(InputError, match="name it"):
        score_figure(many, ax=axes[4])


def test_a_subfigure_belongs_to_its_figure(sample: Scores):
    figure = Figure()
    axes = figure.subfigures(1, 2)[0].subplots()
    assert score_figure(sample, ax=axes) is figure


def test_a_notebook_shows_a_figure_without_registering_it_with_pyplot(sample: Scores):
    figure = score_figure(sample)
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"  # type: ignore[attr-defined]
    assert figure.canvas.manager is None


def test_a_shown_figure_is_registered_with_pyplot(sample: Scores):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figure = score_figure(sample)
    assert not plt.get_fignums()
    figure.show(warn=False)
    assert plt.gcf() is figure
    plt.close(figure)
    assert not plt.get_fignums()


def test_figures_are_saved_without_a_trace(
    tmp_path: Path, sample: Scores, many: Scores, history: dict, caplog: pytest.LogCaptureFixture
):
    before = dict(mpl.rcParams)
    with caplog.at_level(logging.WARNING, logger="matplotlib"):
        for number, figure in enumerate(
            [
                roc_figure(sample, num_bootstrap=5),
                roc_figure(many, num_bootstrap=5),
                score_figure(sample),
                score_figure(many),
                confusion_figure(sample),
                confusion_figure(many, "true"),
                training_figure(history),
            ]
        ):
            (png,) = save_figure(figure, tmp_path / f"{number}.0")
            assert png == tmp_path / f"{number}.0.png"
            width = imread(png).shape[1]
            assert width in (919, 920)  # 4.6 inches at 200 dots per inch, cut off or rounded
    assert dict(mpl.rcParams) == before
    assert not caplog.records  # such as fonts that were not found


def test_the_same_figure_is_the_same_file(tmp_path: Path, sample: Scores):
    formats = ("png", "pdf", "svg")
    one = save_figure(roc_figure(sample, num_bootstrap=5), tmp_path / "one", formats)
    two = save_figure(roc_figure(sample, num_bootstrap=5), tmp_path / "two", formats)
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert one[1].read_bytes()[:5] == b"%PDF-"
    assert "<svg" in one[2].read_text()


def test_names_are_text_and_not_formulas(many: Scores):
    odd = Scores.from_arrays(many.labels, many.values, ["$x", "a_b$", "t\\bar{t}"])
    for figure in (roc_figure(odd, num_bootstrap=0), score_figure(odd), confusion_figure(odd)):
        figure.draw_without_rendering()
    pair = Scores.from_arrays(many.labels == 1, many.values[:, 1], ["$x$", "$\\frac"])
    for figure in (roc_figure(pair, num_bootstrap=0), score_figure(pair), confusion_figure(pair)):
        figure.draw_without_rendering()


def test_the_history_of_a_run_is_drawn_as_its_curves():
    rows = [{"epoch": i, "train_loss": 1 / i, "val_loss": 2 / i} for i in (1, 2, 3)]
    history = History(rows, ("epoch", "train_loss", "val_loss"))
    first, second = (training_figure(h).axes[0].lines for h in (history, history.curves()))
    assert [list(line.get_ydata()) for line in first] == [list(line.get_ydata()) for line in second]
    with pytest.raises(InputError, match="the history of a run, not"):
        training_figure(rows)


@pytest.mark.parametrize("rate", [9.99999999999999e-05, 0.01, 0.0])
def test_the_learning_rate_of_one_epoch_is_drawn(rate):
    curves = {"lr": rate, "val_loss": 0.6, "train_loss": 0.7}
    figure = training_figure({n: (np.array([1.0]), np.array([v])) for n, v in curves.items()})
    low, high = figure.axes[-1].get_ylim()
    assert low < rate < high


def test_learning_rates_that_differ_by_rounding_only_are_drawn():
    row = {"epoch": 1, "val_loss": 0.7, "lr": 1e-3}
    history = History([row, row | {"epoch": 2, "lr": 1e-3 * (1 + 3e-16)}])
    training_figure(history).canvas.draw()
