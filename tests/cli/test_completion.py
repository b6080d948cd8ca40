"""Completion in shells: what bash, zsh and fish offer for the beginning of a command."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pcloud.cli import build_parser, main
from pcloud.cli.completion import script

SHELLS = ("bash", "zsh", "fish")
LINES = {
    "pcloud ev": "evaluate",
    "pcloud train --schedule c": "constant cosine",
    "pcloud train --schedule cosine ": "",  # a file
    "pcloud train --max-j": "--max-jets",
    "pcloud train --model particlenet_l": "particlenet_lite",
    "pcloud explain runs/a --method taylor occ": "occlusion",  # one of several values
    "pcloud explain runs/a --method taylor --che": "--checkpoint",
    "pcloud completion f": "fish",
    "pcloud evaluate runs/a --checkpoint = be": "best",  # as bash divides --checkpoint=be
    "pcloud nothing --o": "",
}


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {shell: script(shell) for shell in SHELLS}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option(scripts: dict[str, str], shell: str) -> None:
    parsers = build_parser().commands
    assert len(parsers) > 15
    for name, parser in parsers.items():
        assert name in scripts[shell]
        for action in parser._actions:
            for option in action.option_strings:
                text = f"-l {option[2:]} " if shell == "fish" and option[:2] == "--" else option
                assert text.strip("-") in scripts[shell], option


def test_the_command_prints_the_script(
    scripts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == scripts["fish"]


@pytest.mark.once
def test_bash_completes(scripts: dict[str, str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    lines = [scripts["bash"]]
    for line in LINES:
        *words, last = line.split(" ")
        lines += [
            f"COMP_WORDS=({' '.join(words)} {last or chr(34) * 2}) COMP_CWORD={len(words)}",
            '_pcloud; echo "${COMPREPLY[*]}"',
        ]
    done = subprocess.run(
        [bash, "--noprofile", "--norc", "-u"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert dict(zip(LINES, done.stdout.split("\n")[:-1], strict=True)) == LINES


@pytest.mark.once
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_scripts(scripts: dict[str, str], shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    read = [program, "-n"] if shell == "zsh" else [program, "--no-execute"]
    done = subprocess.run(read, input=scripts[shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
