"""Reports of images and tables speak of images and events, and show what a network on images sees."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.interpret.cnn_figures import class_activations, filters_of
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.nouns import section_with_noun, with_noun
from pcloud.studies.image_figures import StoredImages
from pcloud.training.data import load_splits
from tests.images.made import bars


def test_only_prose_gets_another_noun():
    assert with_noun("A jet, the jets. Jets", "events") == "An event, the events. Events"
    for name in ("runs/jets", "b-jets", "jet_pt", "jets.root", "dijets", "jet/W"):
        assert with_noun(f"of {name} here", "events") == f"of {name} here"
    body = paragraph("two jets") + table([["jets", "jet"], ["jets", "1"]])
    found = section_with_noun(Section("The test jets", body), "records")
    assert found.title == "The test records"
    assert found.body == body.replace("two jets", "two records")


def text_of(page):
    found = re.sub(r"<style.*?</style>|<pre.*?</pre>", "", page.read_text("utf-8"), flags=re.S)
    return re.sub(r"<[^>]+>", " ", found)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    images, labels = bars(200)
    np.savez(folder / "bars.npz", images=images, labels=labels, classes=["lying", "upright"])
    quick = {"epochs": 2, "batch_size": 32, "lr": 2e-3, "test_fraction": 0.4, "progress": False}
    return pcloud.train(data=folder / "bars.npz", model="group_cnn", out=folder / "run", **quick)


@pytest.mark.filterwarnings("ignore:the network has learned nothing")
def test_the_report_shows_misclassified_images_filters_and_activations(run):
    few = {"evaluate": ["--bootstrap", "0"], "explain": ["--jets", "2", "--quiet"], "report": []}
    for command in few:
        main(
            [command, str(run.path), *(["--jets", "2", "--quiet"] if command == "explain" else [])]
        )
    (test,) = load_splits(run.config, "test")
    scores = run.predict(test)
    wrong = np.flatnonzero(scores.argmax(1) != np.asarray(test.labels))
    stored = StoredImages.read(run.path)
    assert (stored.num_misclassified, stored.num_images) == (len(wrong), len(test))
    top = wrong[np.argsort(-scores[wrong].max(1), kind="stable")][:12]
    assert stored.labels == np.asarray(test.labels)[top].tolist()
    np.testing.assert_allclose(np.array(stored.scores).reshape(-1, 2), scores[top], atol=1e-5)
    name, filters = filters_of(run.model())
    assert name.endswith(stored.layer)
    np.testing.assert_allclose(np.array(stored.filters), filters[:32, :8], atol=1e-6)
    found = class_activations(run.model(), test.images, test.labels)
    for (layer, values), expected in zip(stored.activations.items(), found.values(), strict=True):
        np.testing.assert_allclose(np.array(values), expected, atol=1e-4, err_msg=layer)
    text = text_of(run.path / "report.html")
    assert f"{len(wrong)} of {len(test)} test images are misclassified" in text
    assert not re.search(r"\bjets?\b", text)


def test_damaged_images_are_refused(tmp_path):
    values = {
        "classes": ["a", "b"], "misclassified": [[[[0.0]]]], "labels": [0], "scores": [[0.2, 0.8]],
        "num_misclassified": 1, "num_images": 3, "layer": "", "filters": [], "activations": {},
    }  # fmt: skip
    assert StoredImages.from_dict(values).rows()[1] == ["a", "0.200", "b", "0.800"]
    for name, wrong in (("labels", [2]), ("scores", [[0.1]]), ("activations", {"x": [[1.0]]})):
        with pytest.raises(InputError, match=name):
            StoredImages.from_dict(values | {name: wrong})
