"""Figures of clustering trees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcloud import kinematics
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.interpret.trees import merging_distances, tree_figure
from pcloud.nn.clustering import clustering_trees
from pcloud.nn.layout import RaggedLayout
from tests.training.conftest import make_jets

PT = torch.tensor([100.0, 50.0, 2.0], dtype=torch.float64)
ETA = torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64)
P4 = kinematics.from_pt_eta_phi_mass(PT, ETA, torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("algorithm", "first"), [("kt", 0.2), ("cambridge_aachen", 0.1), ("antikt", 0.002)]
)
def test_distances_are_those_of_the_algorithm(algorithm, first):
    trees = clustering_trees(P4, RaggedLayout.from_ptr(torch.tensor([0, 3])), algorithm)
    distances = merging_distances(P4, trees, algorithm)
    assert float(distances[0]) == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("form", ["plane", "dendrogram"])
def test_an_edge_for_each_child_ends_at_its_particle(form):
    figure = tree_figure(P4, "cambridge_aachen", form=form)
    (edges, *_) = figure.axes[0].collections
    ends = np.array([path.vertices[-1] for path in edges.get_paths()])
    assert len(ends) == 4
    if form == "plane":
        axis = float(kinematics.finite_eta(P4.sum(0)))
        for eta in ETA.tolist():
            assert np.abs(ends[:, 0] - (eta - axis)).min() < 1e-6
    else:
        assert sorted(ends[:, 0].tolist()) in ([0, 0, 1, 2], [0, 1, 1.5, 2])
    pt = np.sort(np.asarray(edges.get_array()))
    np.testing.assert_allclose(pt, [2, 50, 52, 100], rtol=1e-4)


def test_the_tree_of_a_jet_of_a_file_is_drawn(tmp_path, capsys, monkeypatch):
    from pcloud import write_jets

    monkeypatch.chdir(tmp_path)
    jets = make_jets(20)
    write_jets(jets, "jets.parquet")
    number = str(int(np.argmax([len(jet.p4) for jet in jets])))
    assert main(["draw", "jets.parquet", "--jet", number, "--algorithm", "kt", "-o", "t.svg"]) == 0
    assert "written to t.svg" in capsys.readouterr().out
    assert (tmp_path / "t.svg").stat().st_size > 1000
    assert main(["draw", "jets.parquet", "--jet", "20"]) == 2
    assert capsys.readouterr().err == "pcloud: error: jets.parquet has no jet 20\n"
    assert main(["draw", "jets.parquet", "-o", "t.txt"]) == 2
    with pytest.raises(InputError, match="at least 2 particles"):
        tree_figure(P4[:1])
