"""The benchmarks run, on tiny settings; nothing is said about times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run_benchmark(folder: Path, name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / name, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_taggers_are_compared_and_more_seeds_added(tmp_path):
    tiny = ["--epochs", "1", "--max-jets", "200", "--max-val-jets", "100", "--max-test-jets", "500"]
    common = ["--models", "pfn", *tiny, "--rate-jets", "8", "--repeats", "1", "--out", "table"]
    run_benchmark(tmp_path, "top_tagging.py", *common)
    trained = (tmp_path / "table/pfn/seed1/metrics.csv").stat().st_mtime_ns
    printed = run_benchmark(tmp_path, "top_tagging.py", *common, "--seeds", "1", "2")
    assert (tmp_path / "table/pfn/seed1/metrics.csv").stat().st_mtime_ns == trained
    assert "| pfn | 2 |" in printed
    assert "published" not in printed
    result = json.loads((tmp_path / "table/top_tagging.json").read_text())
    assert sum(result["settings"]["test_jets"]) == 500
    assert result["models"]["pfn"]["cost"]["parameters"] == 83_842
    assert set(result["models"]["pfn"]["seeds"]) == {"1", "2"}
    assert (tmp_path / "table/top_tagging.png").stat().st_size > 5_000


def test_rates_are_compared_with_those_of_the_edge_list(tmp_path):
    tiny = ["--models", "lorentznet", "--modes", "infer", "--batch-sizes", "2"]
    common = [*tiny, "--repeats", "1", "--out", "rates", "--precisions", "fp32"]
    printed = run_benchmark(tmp_path, "throughput.py", "models", *common)
    assert "| lorentznet | infer | 2 | fp32 | eager | cpu | edge list |" in printed
    (row,) = json.loads((tmp_path / "rates/throughput.json").read_text())["tables"]["models"]
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert row["contenders"]["ours"]["of_matrix_rate"] > 0


def test_scaling_is_measured_and_drawn(tmp_path):
    tiny = ["--particles", "30", "--jets", "2", "--threads", "1", "--repeats", "1"]
    run_benchmark(
        tmp_path,
        "scaling.py",
        *tiny,
        "--out",
        "scaling",
        "--work",
        "pfn",
        "neighbours, 2 dimensions",
    )
    curves = json.loads((tmp_path / "scaling/scaling.json").read_text())
    assert [row["particles"] for row in curves["particles"]["pfn"]] == [10, 30]
    assert [row["jets"] for row in curves["batch"]["pfn"]] == [1, 2]
    for figure in ("time", "memory", "batch", "threads"):
        assert (tmp_path / f"scaling/{figure}.png").stat().st_size > 5_000
