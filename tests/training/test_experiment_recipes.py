"""Recipes of experiments, which set the network and what it learns, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets
from pcloud.training.config import TrainConfig
from pcloud.training.fit import train
from pcloud.training.recipes import RECIPES
from tests.experiment_files import write_ftag, write_two_collections

pytestmark = pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning")

SMALL = {"width": 16, "num_layers": 1, "particle_width": 8, "head_widths": [8]}
OUT: dict[str, Any] = {"data": "simulated", "out": "runs/a"}


def test_a_recipe_sets_network_and_objectives_unless_they_are_given():
    config = TrainConfig(recipe="gn2", **OUT)
    assert config.model == "gn2"
    assert config.objective == ["class", "origin:classes", "vertex:pairs"]
    assert config.objective_weights == [1.0, 0.5, 1.5]
    assert config.resolved_recipe().lr == RECIPES["gn2"].lr
    other = TrainConfig(recipe="gn2", model="pfn", objective="class", lr=0.1, **OUT)
    assert (other.model, other.objective, other.objective_weights) == ("pfn", ["class"], "equal")
    assert other.lr == 0.1
    again = TrainConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert TrainConfig(model="gn2", **OUT).objective == ["class"]  # the optimization alone
    with pytest.raises(InputError, match="training needs model"):
        TrainConfig(recipe="pfn", **OUT)


@pytest.mark.filterwarnings("ignore::pcloud.io.selection.SelectionWarning")
def test_the_recipe_of_atlas_learns_flavour_origins_and_vertices(tmp_path: Path):
    (file,) = write_ftag(tmp_path, 120)
    schema = {
        "p4": {name: f"tracks/{name}" for name in ("pt", "eta", "phi")},
        "mask": "tracks/valid",
        "unit": "MeV",
        "particle": {"d0": "tracks/d0"},
        "jet": {"jet_pt": "jets/pt_btagJes"},
        "label": "jets/HadronConeExclTruthLabelID",
        "classes": {"b": 5, "other": [0, 4, 15]},
        "particle_labels": {
            "origin": {"value": "tracks.d0 > 0", "classes": ["behind", "before"]},
            "vertex": "tracks.d0 > 0.05",
        },
    }
    options: dict[str, Any] = {"data": str(file), "schema": schema, "recipe": "gn2"}
    options |= {"features": ["kin", "d0"], "jet_features": ["log(jet_pt)"], "model_options": SMALL}
    options |= {"epochs": 1, "batch_size": 30, "val_fraction": 0.2, "test_fraction": 0.2}
    run = train(**options, out=tmp_path / "run", progress=False)
    assert run.tagger().name == "gn2"
    table = run.evaluate(num_bootstrap=0)
    assert {"auc", "origin.accuracy", "vertex.efficiency", "vertex.purity"} <= set(table)


def test_the_recipe_of_cms_learns_classes_and_the_correction_of_pt(tmp_path: Path):
    (file,) = write_two_collections(tmp_path, 120)
    schema = {
        "p4": {"pt": "pf_pt", "eta": "pf_eta", "phi": "pf_phi", "E": "pf_e"},
        "collections": {"sv": {"columns": {"flight": "sv_dlen"}}},
        "label": "label",
        "classes": ["qcd", "top"],
        "targets": {"pt": "gen_pt / fj_pt"},
    }
    small = {"widths": ((8, 8), (8,)), "fusion_width": 8, "head_widths": [8], "embed_width": 8}
    options: dict[str, Any] = {"data": str(file), "schema": schema, "recipe": "cms_ak4"}
    options |= {"model_options": small, "epochs": 1, "batch_size": 30}
    run = train(**options, out=tmp_path / "run", progress=False)
    found = run.predictions(read_jets(file, JetSchema.from_dict(schema)))
    assert found["pt"].probabilities == (0.16, 0.5, 0.84)
    low, middle, high = found["pt"].values.T
    assert bool(((low < middle) & (middle < high)).all())
    assert bool(found["class"].mean.isfinite().all())
