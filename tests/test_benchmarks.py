"""The benchmarks run, on tiny settings; nothing is said about times."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pcloud

pytestmark = pytest.mark.once
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.usefixtures("small_sample")
def test_taggers_are_compared_and_more_seeds_added(tmp_path, run_script):
    tiny = ["--epochs", "1", "--max-jets", "200", "--max-val-jets", "100", "--max-test-jets", "300"]
    common = ["--models", "pfn", *tiny, "--rate-jets", "8", "--repeats", "1", "--out", "table"]
    run_script("benchmarks/top_tagging.py", *common)
    trained = (tmp_path / "table/pfn/seed1/metrics.csv").stat().st_mtime_ns
    printed = run_script("benchmarks/top_tagging.py", *common, "--seeds", "1", "2")
    assert (tmp_path / "table/pfn/seed1/metrics.csv").stat().st_mtime_ns == trained
    assert "| pfn | 2 |" in printed
    assert "published" not in printed
    result = json.loads((tmp_path / "table/top_tagging.json").read_text())
    assert sum(result["settings"]["test_jets"]) == 300
    assert result["models"]["pfn"]["cost"]["parameters"] == 83_842
    assert set(result["models"]["pfn"]["seeds"]) == {"1", "2"}
    assert (tmp_path / "table/top_tagging.png").stat().st_size > 5_000


@pytest.mark.usefixtures("small_sample")
def test_a_trained_network_keeps_its_scores_in_float32(tmp_path, run_script, monkeypatch):
    monkeypatch.delenv("PCLOUD_REFERENCE_DATA", raising=False)
    few = {"max_jets": 64, "max_val_jets": 50, "epochs": 1, "batch_size": 16, "progress": False}
    for model in ("pfn", "lorentznet"):
        pcloud.train(data="simulated", model=model, out=tmp_path / model, **few)
    printed = run_script("benchmarks/symmetry.py", "lorentznet", "--jets", "40")
    (row,) = (line for line in printed.splitlines() if line.startswith("| `lorentznet`"))
    turned, boosted = row.split("|")[-3:-1]
    assert float(turned.split("/")[1]) < 1e-4
    assert float(boosted.split("/")[1]) < 1e-4
    assert "pfn is not Lorentz" in run_script("benchmarks/symmetry.py", "pfn", code=1)


@pytest.mark.usefixtures("small_sample")
def test_precisions_are_compared_on_the_same_jets(run_script):
    tiny = ["--max-jets", "64", "--epochs", "1", "--seeds", "1", "2", "--out", "accuracy"]
    ways = ["--ways", "ours, float32", "ours, bfloat16"]
    printed = run_script("benchmarks/accuracy.py", *tiny, *ways).splitlines()
    first, second = (line.split(" | ") for line in printed if line.startswith("| ours"))
    assert float(first[2].split()[0]) == pytest.approx(float(second[2].split()[0]), abs=0.01)
    apart, spread, counting = map(float, second[3].rstrip(" |").split(" ± "))
    assert abs(apart) < 0.01
    assert spread >= 0
    assert 0 < counting < float(first[2].split()[-1])  # the same jets: known better


@pytest.mark.usefixtures("small_sample")
def test_an_image_is_compared_with_the_graph_of_its_pixels(run_script):
    tiny = ["--images", "64", "--epochs", "1", "--seeds", "1", "--out", "graphs"]
    networks = ["image, CNN", "pixels of the image, ParticleNet-Lite"]
    printed = run_script("benchmarks/image_graphs.py", "jets", *tiny, "--networks", *networks)
    rows = [line for line in printed.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == networks


def test_rates_are_compared_with_those_of_the_edge_list(tmp_path, run_script):
    tiny = ["--models", "lorentznet", "--modes", "infer", "--batch-sizes", "2"]
    common = [*tiny, "--repeats", "1", "--out", "rates", "--precisions", "fp32"]
    printed = run_script("benchmarks/throughput.py", "models", *common)
    assert "| lorentznet | infer | 2 | fp32 | eager | cpu | edge list |" in printed
    (row,) = json.loads((tmp_path / "rates/throughput.json").read_text())["tables"]["models"]
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert row["contenders"]["ours"]["of_matrix_rate"] > 0


def test_scaling_is_measured_and_drawn(tmp_path):
    tiny = ["--particles", "30", "--jets", "2", "--threads", "1", "--repeats", "1"]
    work = ["--out", "scaling", "--work", "pfn", "neighbours, 2 dimensions"]
    # in a process of its own: it is forked to measure how its memory grows
    command = [sys.executable, BENCHMARKS / "scaling.py", *tiny, *work]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    curves = json.loads((tmp_path / "scaling/scaling.json").read_text())
    assert [row["particles"] for row in curves["particles"]["pfn"]] == [10, 30]
    assert [row["jets"] for row in curves["batch"]["pfn"]] == [1, 2]
    for figure in ("time", "memory", "batch", "threads"):
        assert (tmp_path / f"scaling/{figure}.png").stat().st_size > 5_000


@pytest.mark.usefixtures("small_sample")
def test_scores_are_compared_in_other_orders_batches_and_precisions(run_script):
    tiny = ["--models", "particlenet_lite", "--epochs", "1", "--train-jets", "64", "--jets", "40"]
    printed = run_script("benchmarks/reproducibility.py", *tiny)
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| particle")]
    assert [row[1] for row in rows] == ["as they are", "on a grid"]
    assert all(row[2] == "0" for row in rows)


def test_coverage_of_rejections_is_printed_before_and_after(tmp_path, run_script):
    printed = run_script(
        "benchmarks/rejection_coverage.py", "--quick", "--toys", "20", "--out", "."
    )
    assert "20 samples of each of 8 points, seed 0" in printed
    assert "| fewer than 2 signal jets fail | 2 |" in printed
    found = json.loads((tmp_path / "rejection_coverage.json").read_text())
    assert len(found) == 8
    assert all(0 <= part <= 1 for row in found for part in (*row["before"], *row["after"]))


@pytest.mark.usefixtures("small_sample", "fast_passes")
def test_every_kernel_can_be_timed_against_its_formula(run_script):
    tiny = ["--batch-size", "4", "--repeats", "1", "--kernels", "knn_by_sorting"]
    printed = run_script("benchmarks/kernels.py", *tiny)
    assert "| `knn_by_sorting` | `particlenet_lite` |" in printed
    import kernels  # on the path of the script

    timed = {f"pcloud.nn.{name}" for modules, _ in kernels.KERNELS.values() for name in modules}
    importlib.import_module("pcloud.models")
    gated = {
        name
        for name, module in sys.modules.items()
        if name.startswith("pcloud.nn.") and hasattr(module, "kernel_allowed")
    }
    assert gated - timed == {"pcloud.nn.numerics.derivatives"}


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize(
    ("name", "jets", "most"), [("particlenet_lite", 32, 2270), ("pfn", 32, 362), ("pfn", 1, 355)]
)
def test_a_training_step_of_a_small_network_has_half_of_the_first_operators(
    monkeypatch, name, jets, most
):
    # 4547, 725 and 710 when they were first counted
    monkeypatch.syspath_prepend(BENCHMARKS)
    operators = importlib.import_module("operators")
    found = operators.count_operators(name, jets, "training")
    assert found == operators.count_operators(name, jets, "training")
    assert found <= most


def test_the_rate_of_jetclass_is_compared_with_its_floor(run_script):
    printed = run_script("benchmarks/jetclass_rate.py", "--jets", "300", "--repeats", "1")
    assert float(printed.splitlines()[1].split()[1].replace(",", "")) > 0
    assert "floor zlib" in printed


@pytest.mark.usefixtures("small_sample")
def test_pretrained_networks_are_compared_with_others_from_scratch(tmp_path, run_script):
    few = ["--percent", "0.2", "--seeds", "1", "2", "--epochs", "1", "--jets-seen", "100"]
    printed = run_script("benchmarks/pretraining.py", *few, "--out", "pretraining")
    (row,) = (line for line in printed.splitlines() if line.startswith("| 0.2 % | 72 |"))
    cells = [cell.split(" ± ") for cell in row.strip(" |").split(" | ")[2:]]
    scratch, pretrained, difference = (float(cell[0]) for cell in cells)
    assert difference == pytest.approx(pretrained - scratch, abs=2e-4)
    assert (tmp_path / "pretraining/pretraining.png").stat().st_size > 5_000


def test_the_front_has_the_best_of_each_cost(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    pareto = importlib.import_module("pareto")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    names = ["trees", *(f"PFN {i}" for i in (1, 2, 3)), *(f"EFN {i}" for i in (1, 2, 3))]
    costs = {name: {"ms": i + 1.0, "mflop": 10.0 - i} for i, name in enumerate(names)}
    costs["trees"]["mflop"] = np.nan
    (tmp_path / "scores").mkdir()
    for name in names:
        scores = labels * rng.uniform(0.3, 2) + rng.normal(size=400)
        np.save(tmp_path / "scores" / f"{name.replace(' ', '_')}_1.npy", scores)
    options = argparse.Namespace(out=tmp_path, front_seeds=2, max_jets=1, epochs=1, near=1e-6)
    pareto._write(options, labels, costs)
    found = json.loads((tmp_path / "pareto.json").read_text())
    area = {name: values["auc"][0] for name, values in found.items()}
    on_front = {
        name
        for name in names
        if all(area[name] > area[n] for n in names if costs[n]["ms"] < costs[name]["ms"])
    }
    rows = [line.split(" | ") for line in (tmp_path / "pareto.md").read_text().splitlines()[2:9]]
    assert {row[0].strip("| ") for row in rows if "time" in row[-1]} == on_front
    assert on_front <= pareto._near_front(options, labels, costs)
    assert (tmp_path / "pareto_flop.png").stat().st_size > 5_000


@pytest.mark.filterwarnings("ignore:of the", "ignore:the network has learned nothing")
def test_digits_are_tested_at_every_angle(tmp_path, run_script):
    tiny = ["--images", "100", "--test-images", "20", "--epochs", "1", "--seeds", "0"]
    common = [*tiny, "--angles", "0", "45", "90", "--out", "angles", "--networks", "p4"]
    printed = run_script("benchmarks/rotation_study.py", *common, "--figure", "angles.png")
    found = json.loads((tmp_path / "angles/angles.json").read_text())["p4, seed 0"]
    assert found["change"][0] < 1e-5
    assert found["change"][2] < 1e-3  # p4 ignores quarter turns
    assert found["change"][1] > 10 * found["change"][2]
    assert "| p4 |" in printed
    assert (tmp_path / "angles.png").stat().st_size > 5_000


def test_the_ideal_response_of_the_toys_has_the_coefficients_of_the_lecture(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(BENCHMARKS)
    toys = importlib.import_module("taylor_toys")
    x, _ = toys.gaussians(4000, 0.0, 1)
    assert toys.coefficients(toys.ideal(0.0), x) == pytest.approx(toys.LECTURE, abs=0.01)
    for name, value in {"_MAX_EPOCHS": 3, "_EVENTS": 500, "_TEST_EVENTS": 20_000}.items():
        monkeypatch.setattr(toys, name, value)
    monkeypatch.setattr(sys, "argv", ["toys", "--seeds", "0", "--figures", str(tmp_path)])
    threads = torch.get_num_threads()
    toys.main()
    torch.set_num_threads(threads)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    ratios = [float(row[3].strip(" |")) for row in rows if row[0] in {"| 0.3", "| 0.8"}]
    assert ratios == pytest.approx([1.014, 1.12], abs=0.01)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "taylor_toys_course.png",
        "taylor_toys_planes.png",
    }


@pytest.mark.filterwarnings("ignore:the network has learned nothing")
def test_samplers_are_compared_after_as_many_epochs(run_script):
    pytest.importorskip("optuna")
    tiny = ["--trials", "1", "--seeds", "0", "--epochs", "1", "--jets", "50", "--out", "samplers"]
    printed = run_script("benchmarks/tune_samplers.py", *tiny)
    assert [line.split(" | ")[0] for line in printed.splitlines() if line.startswith("| ")][1:] == [
        "| grid",
        "| random",
        "| tpe",
        "| cmaes",
    ]


@pytest.mark.usefixtures("small_sample")
@pytest.mark.filterwarnings("ignore:the network has learned nothing")
def test_fine_tuning_is_compared_with_random_weights(run_script):
    tiny = ["--models", "pfn", "--jets", "60", "--first-jets", "100", "--test-jets", "100"]
    printed = run_script("benchmarks/jets_needed.py", *tiny, "--steps", "2", "--out", "needed")
    rows = [line.split(" | ")[:2] for line in printed.splitlines() if "±" in line]
    assert rows == [["| pfn", "random"], ["| pfn", "fine-tuned"]]
