"""The page of exercises: its commands exist, are those of its script, and print what it shows."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from pcloud.cli.parser import complete
from pcloud.cli.program import parse

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "benchmarks/exercises.py"), run_name="exercises")


def test_every_command_of_the_exercises_exists(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(script["SPACE"])
    for line in script["commands"]():
        program, *words = shlex.split(line)
        if program == "python":
            text = (ROOT / words[0]).read_text(encoding="utf-8")
            for option in (word for word in words if word.startswith("--")):
                assert f'"{option}"' in text, line
            continue
        command, options = parse(words)
        if command.complete:
            complete(command.stages, options)


def test_the_page_has_every_exercise_and_the_time_of_what_its_commands_print(script):
    page = (ROOT / "docs/exercises.md").read_text(encoding="utf-8")
    for line in script["commands"]():
        assert line in page
    numbers = []
    for course in script["COURSES"]:
        assert course.title in page
        for exercise in course.exercises:
            _, _, rest = page.partition(f"**{exercise.title}**")
            section = re.split(r"^\*\*|^## ", rest, flags=re.MULTILINE)[0]
            numbers.append(("```text" in section) + bool(re.search(r"\b\d+ s\.", section)))
    assert numbers.count(1) == 0  # an output has its time
    assert numbers.count(2) > 0.6 * len(numbers)
    assert script["INTRODUCTION"] in page


def test_commands_are_run_and_their_lines_chosen(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = script["run"]("python examples/convolution_shift.py")
    assert found["code"] == 0
    assert "dense layer" in found["output"]
    quick = "pcloud train --data gaussians --model logistic --epochs 1 --max-jets 200 --out a"
    stored = {line: script["run"](line) for line in (quick, "pcloud evaluate a --bootstrap 0")}
    assert [one["code"] for one in stored.values()] == [0, 0]
    exercise = script["Exercise"]("A line", tuple(stored), shows="^AUC", sheet="0.9")
    section = script["_section"](exercise, stored)
    assert re.search(r"```text\nAUC .*±.*\n```", section)
    assert "The sheet: 0.9." in section
    assert script["run"]("pcloud evaluate nowhere")["code"] == 2
