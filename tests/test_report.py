from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from pcloud.errors import InputError, UnreadableFileWarning
from pcloud.evaluation import evaluate_scores_file, write_metrics
from pcloud.report import sections, write_report
from pcloud.report.contents import MAIN_FILES, RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.points import HEADER, points_as_csv
from pcloud.training.history import History

CONFIG = "# Which network.\nmodel: particlenet_lite\ndata: simulated\nseed: 3\nlr: 0.005\n"
HISTORY = "epoch,train_loss,val_loss,val_auc,lr\n0,0.5,0.45,0.95,0.01\n1,0.3,0.31,0.97,0.01\n"
ENVIRONMENT = {
    "pcloud": "0.1.0",
    "packages": {"torch": "2.8.0"},
    "gpu": None,
    "finished": "2026-01-02T03:09:05+00:00",
}


def write_scores(path: Path, num_classes: int = 2, names: list[str] | None = None) -> Path:
    generator = np.random.default_rng(0)
    labels = np.arange(400) % num_classes
    logits = generator.normal(size=(400, num_classes)) + 2 * np.eye(num_classes)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = names or ["qcd", "top", "Hbb", "Wqq", "Zqq"][:num_classes]
    columns = {"label": labels} | {f"score_{n}": scores[:, i] for i, n in enumerate(names)}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "metrics.csv").write_text(HISTORY)
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    write_metrics(folder, evaluate_scores_file(write_scores(folder / "scores.parquet")))
    return folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "run"))


SHOWN = {
    "config.yaml": "trained on simulated",
    "metrics.json": "counting error",  # without the file computed from the scores
    "metrics.csv": "lowest validation loss",
    "scores.parquet": "correctly classified jets",
    "environment.json": "2.8.0",
}
"""Words on the page that come from each file."""


class Page(HTMLParser):
    """Reads a page: its text, identifiers and links, and whether its elements nest."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.links.append(str(value))
            self.links += re.findall(r"url\(([^)]*)\)", str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment {data!r}: text of the user could end it")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def full(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run whose page is written."""
    folder = shutil.copytree(template, tmp_path_factory.mktemp("full") / "run")
    assert write_report(folder) == folder / "report.html"
    return Path(folder)


def text_of(section: Callable, run: Path, figures: Path) -> str:
    """Text of one section of the page of a run."""
    return Page(section(RunContents.read(run), FigureFolder(figures)).body).text


def test_page_gives_every_number_with_its_error(full: Path):
    page = Page((full / "report.html").read_text("utf-8"))
    for entry in evaluate_scores_file(full / "scores.parquet").values():
        assert str(entry) in page.text
    for words in ("particlenet_lite", "trained on simulated", "400 test jets", "seed 3"):
        assert words in page.text
    assert "lowest validation loss 0.3100, after epoch 1" in page.text
    assert "lr: 0.005" in page.text  # the whole configuration
    assert "torch2.8.0" in page.text.replace(" ", "")
    assert f"pcloud train --config {full}/config.yaml" in page.text
    assert page.elements["svg"] - 3 == page.elements["figcaption"] == 9  # 3 of them in the summary


def test_page_needs_nothing_but_itself(full: Path):
    text = (full / "report.html").read_text("utf-8")
    page = Page(text)
    assert not page.elements["script"]
    assert "@import" not in text
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(text) < 1_000_000


def test_page_is_made_for_phones_and_for_the_dark(full: Path):
    text = (full / "report.html").read_text("utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    style, body = text.split("</style>", 1)
    assert "prefers-color-scheme: dark" in style
    # Every colour in the drawings turns with the page.
    assert set(re.findall(r"var\(--([\w-]+)\)", body)) <= set(re.findall(r"--([\w-]+):", style))
    assert not re.findall(r"#[0-9a-f]{6}\b", body)


def test_figures_lie_beside_the_page(full: Path):
    names = (
        *("confusion_counts", "confusion_predicted", "confusion_true", "reliability", "roc"),
        *("scores", "significance", "training_accuracy", "training_loss"),
    )
    files = {path.name for path in (full / "figures").iterdir()}
    assert files == {f"{name}.{form}" for name in names for form in ("png", "pdf", "csv")}


def test_points_of_a_figure_are_its_numbers():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [2, 3], label="=cmd()")
    axes.errorbar([1.0, 2.0], [5.0, 7.0], [[1.0, 2.0], [3.0, 4.0]], fmt="o", label="a, b")
    axes.fill_between([0, 1], [1, 2], [3, 5], label="band")
    axes.stairs([4, 6], [0, 1, 2], label="steps")
    axes.set_ylabel("y")
    rows = list(csv.reader(points_as_csv(figure).splitlines()))
    assert rows[0] == list(HEADER)
    assert ["1", "'=cmd()", "line", "1", "3", "", ""] in rows
    assert ["1", "a, b", "error in y", "2", "7", "5", "11"] in rows
    assert ["1", "band", "band", "1", "", "2", "5"] in rows
    assert ["1", "steps", "step", "1.5", "6", "1", "2"] in rows
    assert len(rows) == 1 + 2 + 2 + 2 + 2


def _luminance(color: str) -> float:
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_can_be_read_in_the_light_in_the_dark_and_in_print(full: Path):
    style = (full / "report.html").read_text("utf-8").split("</style>")[0]
    for colors in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        values = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", colors))
        for text in {"ink", "muted", "accent"} & set(values):
            for ground in ("card", "page"):
                light, dark = sorted(_luminance(values[name]) for name in (text, ground))[::-1]
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, values)


def test_every_part_is_listed_and_has_a_control_of_the_keyboard(full: Path):
    text = (full / "report.html").read_text("utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert re.findall(r'<li><a href="#section-\d+">(.*?)</a></li>', text) == titles
    for name, shown in re.findall(
        r'<div class="choice">(.*?)<div class="parts">(.*?)</section>', text
    ):
        assert name.count('type="radio"') == name.count("<label for=") == shown.count("<figure")
    assert text.count(" checked>") == len(re.findall('class="choice"', text)) == 1


@pytest.mark.once
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_nothing_is_wider_than_the_window_of_a_browser(full: Path, tmp_path: Path, width: int):
    text = (full / "report.html").read_text("utf-8")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    script = f"<script>document.title = 'wider by ' + ({wide})</script></body>"
    (tmp_path / "page.html").write_text(text.replace("</body>", script), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    page = (tmp_path / "page.html").as_uri()
    done = subprocess.run(
        ["chromium", *options, f"--window-size={width},900", "--dump-dom", page],
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert b"<title>wider by 0</title>" in done.stdout


def test_a_second_report_is_the_same(full: Path):
    first = (full / "report.html").read_bytes()
    assert write_report(full).read_bytes() == first


@pytest.mark.parametrize(
    ("file", "section", "sentence"),
    [
        ("config.yaml", sections.reproduction, "was not found: no command to reproduce this run."),
        ("environment.json", sections.reproduction, "was not found: no versions and machine."),
        ("metrics.csv", sections.training, "was not found: no training curves."),
        ("scores.parquet", sections.discrimination, "was not found: no curves."),
        ("scores.parquet", sections.confusion, "was not found: no confusion matrix."),
    ],
)
def test_what_is_missing_is_said(
    run: Path, tmp_path: Path, file: str, section: Callable, sentence: str
):
    (run / file).unlink()
    assert f"{file} {sentence}" in text_of(section, run, tmp_path)


def test_numbers_are_computed_from_the_scores_where_they_were_not_kept(run: Path, tmp_path: Path):
    kept = text_of(sections.results, run, tmp_path)
    (run / "metrics.json").unlink()
    assert text_of(sections.results, run, tmp_path) == kept
    (run / "scores.parquet").unlink()
    text = text_of(sections.results, run, tmp_path)
    assert text.endswith("scores.parquet was not found: no numbers.")


@pytest.mark.parametrize("file", MAIN_FILES)
def test_each_file_alone_makes_a_page(run: Path, file: str):
    for other in MAIN_FILES:
        if other != file:
            (run / other).unlink()
    Page(write_report(run).read_text("utf-8"))


def test_unlabelled_scores_leave_the_rest_of_the_page(run: Path):
    scores = pq.read_table(run / "scores.parquet")
    pq.write_table(scores.drop_columns("label"), run / "scores.parquet")
    (run / "metrics.json").unlink()
    with pytest.warns(UnreadableFileWarning, match="has no column label"):
        page = Page(write_report(run).read_text("utf-8"))
    assert "has no column label" in page.text
    assert "lowest validation loss" in page.text


def test_training_without_validation_is_said(run: Path, tmp_path: Path):
    (run / "metrics.csv").write_text("epoch,train_loss,val_loss\n0,0.5,\n1,0.4,\n")
    text = text_of(sections.training, run, tmp_path)
    assert text.startswith("2 epochs. There were no validation jets")


def test_columns_without_curves_are_said(run: Path, tmp_path: Path):
    (run / "metrics.csv").write_text("epoch,speed\n0,1\n")
    assert "no training curves" in text_of(sections.training, run, tmp_path)


def test_many_classes_have_a_row_each(run: Path):
    write_scores(run / "scores.parquet", num_classes=3)
    write_metrics(run, evaluate_scores_file(run / "scores.parquet", background="qcd"))
    page = Page(write_report(run).read_text("utf-8"))
    assert "Hbb vs qcd" in page.text
    assert page.elements["figcaption"] == 10  # one of them the areas of all pairs of classes


def test_other_samples_stand_beside_the_test_jets(run: Path, tmp_path: Path):
    assert text_of(sections.other_samples, run, tmp_path) == ""
    other = run / "evaluations" / "landscape_1000"
    other.mkdir(parents=True)
    write_scores(other / "scores.parquet")
    table = evaluate_scores_file(other / "scores.parquet", efficiencies=[0.7])
    write_metrics(other, table)
    text = text_of(sections.other_samples, run, tmp_path)
    assert "test jets landscape_1000" in text
    assert str(table["rejection@0.7"]) in text


def test_names_and_values_cannot_become_markup(run: Path):
    evil = "<script>alert('&')</script>"
    (run / "config.yaml").write_text(json.dumps({"model": evil, "data": [evil, "b"], "x": evil}))
    (run / "environment.json").write_text(json.dumps({evil: evil, "finished": None}))
    write_scores(run / "scores.parquet", names=[evil, "--></svg>$_{&"])
    write_metrics(run, evaluate_scores_file(run / "scores.parquet"))
    page = Page(write_report(run).read_text("utf-8"))
    assert not page.elements["script"]
    assert page.text.count(evil) >= 5
    assert "training not finished" in page.text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", b"a: [", "config.yaml holds no configuration (not YAML"),
        ("config.yaml", b"\xff\xfe", "config.yaml holds no configuration ('utf-8' codec"),
        ("metrics.json", b"{}", "metrics.json holds no table of metrics (no 'metrics')"),
        ("metrics.csv", b"step,loss\n1,2\n", "no column epoch, only step, loss"),
        ("metrics.csv", b"epoch,train_loss\n0,0.5\n1,0.\xc3\xa4\n", "line 3: not a row of numbers"),
        ("metrics.csv", b"epoch,train_loss\n,0.5\n", "line 2: not a row of numbers"),
        ("environment.json", b"[1]", "environment.json holds no description of the environment"),
        ("scores.parquet", b"PAR1", "scores.parquet is not a Parquet file"),
        ("environment.json", b"{", "environment.json holds no description of the environment"),
    ],
)
def test_files_that_cannot_be_read_are_warned_of_and_leave_the_rest_of_the_page(
    run: Path, file: str, content: bytes, message: str
):
    (run / file).write_bytes(content)
    with pytest.warns(UnreadableFileWarning, match=re.escape(message)) as caught:
        page = Page(write_report(run).read_text("utf-8"))
    assert len(caught) == 1
    assert str(run / file) in str(caught[0].message)
    for other, words in SHOWN.items():
        assert (words in page.text) == (other != file or file == "metrics.json")


def test_folders_without_a_run_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_report(tmp_path / "nowhere")


def test_history_takes_the_last_row_of_an_epoch_and_skips_empty_cells(tmp_path: Path):
    text = "epoch,train_loss,val_loss\n0,0.9,0.8\n1,0.7,\n1,0.6,0.5\n2,0.4,\n"
    (tmp_path / "metrics.csv").write_text(text)
    curves = History.read(tmp_path).curves()
    np.testing.assert_array_equal(curves["train_loss"], ([0, 1, 2], [0.9, 0.6, 0.4]))
    np.testing.assert_array_equal(curves["val_loss"], ([0, 1], [0.8, 0.5]))
