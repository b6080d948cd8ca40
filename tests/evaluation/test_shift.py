from __future__ import annotations

from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
from scipy.stats import kstest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.robustness_transformations import transform
from pcloud.evaluation.shift import ShiftTest, compare_jets, differences, jet_columns
from pcloud.io import write_jets
from pcloud.io.jets import FlatJets
from pcloud.studies.compare import compare_files, network_classifier


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return pcloud.load_dataset("simulated", "train")[:6000]


def draw(jets: ak.Array, number: int, seed: int) -> tuple[ak.Array, ak.Array]:
    order = np.random.default_rng(seed).permutation(len(jets))
    return jets[order[:number]], jets[order[number : 2 * number]]


def test_p_values_are_uniform_where_nothing_differs(jets):
    found = [
        compare_jets(*draw(jets, 150, seed), classifier="logistic", permutations=99, seed=seed)
        for seed in range(60)
    ]
    assert kstest([f.p_value for f in found], "uniform").pvalue > 0.01
    assert np.mean([f.auc.value for f in found]) == pytest.approx(0.5, abs=0.02)
    smallest = [f.differences[0].corrected for f in found]
    assert np.mean(np.array(smallest) < 0.1) < 0.25  # at most 0.1, and counting noise


def test_a_shift_of_the_energies_is_found_and_named(jets):
    first, second = draw(jets, 800, 0)
    shifted = transform(FlatJets.from_awkward(second), "energy_scale", 0.05).to_awkward()
    found = compare_jets(first, shifted, permutations=200)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.auc.value > 0.6
    assert found.differences[0].observable == "pt"
    assert found.differences[0].corrected < 1e-4
    quiet = {d.observable: d.corrected for d in found.differences}
    assert quiet["leading_share"] > 0.01  # a scale changes no shares


def test_a_network_on_particles_sees_what_observables_do_not(jets):
    """Directions about the axis turned by a right angle: all observables stay."""
    only = jets[jets.label == 0]
    first, second = draw(only, 400, 1)
    scale = {"E": 1.3, "px": 1.3, "py": 1.3, "pz": 1.3}
    moved = ak.zip({c: second.p4[c] * f for c, f in scale.items()}, with_name="Momentum4D")
    second = ak.with_field(second, moved, "p4")
    found = compare_jets(first, second, classifier=network_classifier("pfn"), permutations=99)
    assert found.p_value == pytest.approx(0.01)
    assert found.auc.value > 0.75


def test_holm_corrects_for_the_number_of_looks():
    generator = np.random.default_rng(0)
    first = {f"x{i}": generator.normal(size=300) for i in range(10)}
    second = {f"x{i}": generator.normal(0.6 * (i == 3), size=300) for i in range(10)}
    found = differences(first, second)
    assert found[0].observable == "x3"
    assert found[0].corrected == pytest.approx(10 * found[0].p_value)
    assert all(a.corrected <= b.corrected for a, b in pairwise(found))
    assert found[-1].corrected <= 1
    assert found[0].second.value == pytest.approx(0.6, abs=4 * found[0].second.error)


def test_the_command_compares_files(jets, tmp_path, capsys):
    first, second = draw(jets, 120, 2)
    write_jets(first, tmp_path / "a.parquet")
    write_jets(second, tmp_path / "b.parquet")
    out = tmp_path / "shift"
    arguments = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), "-o", str(out)]
    assert main(["compare", *arguments, "--classifier", "logistic"]) == 0
    printed = capsys.readouterr().out
    assert "multiplicity" in printed
    stored = ShiftTest.read(out / "a_b.json")
    assert stored.jets == (120, 120)
    assert (out / "a_b.png").stat().st_size > 5000
    assert main(["compare", *arguments, "--classifier", "logistics"]) == 2
    assert "did you mean 'logistic'?" in capsys.readouterr().err


def test_what_cannot_be_compared_is_said(jets, tmp_path):
    with pytest.raises(InputError, match="second sample has 3 jets"):
        compare_jets(jets[:50], jets[:3])
    with pytest.raises(UnknownNameError, match="boosting"):
        compare_jets(jets[:50], jets[50:100], classifier="boostin")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="no comparison"):
        ShiftTest.read(tmp_path / "x.json")


def test_keys_of_jets_are_no_observables(jets):
    keyed = ak.with_field(jets[:40], np.arange(40, dtype=np.uint64), "split_key")
    assert jet_columns(keyed).keys() == jet_columns(jets[:40]).keys()


def test_identifiers_are_no_observables_unless_wanted(jets, tmp_path, capsys):
    files = []
    for i in range(2):
        sample = jets[60 * i : 60 * (i + 1)][["p4"]]
        number = np.arange(60, dtype=np.uint64)
        for name, values in (("eventNumber", 2**40 + 1000 * i + number), ("run", number * 0 + i)):
            sample = ak.with_field(sample, values, name)
        files.append(str(tmp_path / f"{i}.parquet"))
        write_jets(sample, files[-1])
    found, _ = compare_files(*files, permutations=50, classifier="logistic")
    assert found.identifiers == ["eventNumber", "run"]
    assert not {"eventNumber", "run"} & {d.observable for d in found.differences}
    assert found.p_value > 0.01
    assert ShiftTest.read(found.write(tmp_path / "found.json")).identifiers == found.identifiers
    assert main(["compare", *files, "--permutations", "50", "--classifier", "logistic"]) == 0
    assert "Not compared: eventNumber, run, which are identifiers" in capsys.readouterr().out
    command = ["compare", *files, "--permutations", "200", "--identifiers"]
    assert main([*command, "--classifier", "logistic"]) == 0
    printed = capsys.readouterr().out
    assert "The samples differ" in printed
    assert "eventNumber" in printed
