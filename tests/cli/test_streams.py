"""Output in any encoding, closed readers, full disks and too little memory: one line each."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcloud.cli import main, program
from pcloud.cli.errors import message
from pcloud.cli.output import print_rows
from pcloud.cli.streams import any_encoding, plain
from pcloud.errors import CannotWriteError, MissingExtraError, UnknownNameError


def in_encoding(encoding, lines, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    with any_encoding():
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return buffer.getvalue()


def test_characters_that_an_encoding_does_not_have_are_written_in_ascii(monkeypatch):
    table = ["1/\u03b5B at \u03b5S = 0.3", "0.98 \u00b1 0.01", "caf\u00e9 \u2192 \u03c3 \u4e2d"]
    assert in_encoding("cp1252", table[:2], monkeypatch).decode("cp1252").splitlines() == [
        "1/eB at eS = 0.3",
        "0.98 \u00b1 0.01",
    ]
    expected = b"1/eB at eS = 0.3\n0.98 +- 0.01\ncafe -> sigma ?\n"
    assert in_encoding("ascii", table, monkeypatch) == expected
    assert in_encoding("utf-8", table, monkeypatch).decode("utf-8").split("\n")[:3] == table


def test_names_of_files_that_are_no_text_are_printed(monkeypatch):
    assert in_encoding("utf-8", ["jets\udcff.h5"], monkeypatch) == b"jets?.h5\n"


def test_streams_are_left_as_they_were(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with any_encoding():
        assert sys.stdout.errors != "strict"
    assert sys.stdout.errors == "strict"


def test_accents_are_left_out():
    assert plain("\u00c5ngstr\u00f6m") == "Angstrom"


@pytest.mark.parametrize("command", ["models", "datasets"])
def test_tables_are_printed_in_ascii(command, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert main([command]) == 0
    assert buffer.getvalue().isascii()


def test_tables_are_not_cut_in_a_log_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["datasets"]) == 0
    printed = capsys.readouterr().out
    assert "\u2026" not in printed
    assert "QCD, Hbb, Hcc, Hgg, H4q, Hqql, Zqq, Wqq, Tbqq, Tbl  Ten classes" in printed


class Closed(io.StringIO):
    """Output whose reader has ended."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


def test_a_closed_reader_ends_a_command_quietly(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["datasets"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pcloud", "datasets"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        )
    assert done.returncode == 2
    assert done.stderr == "pcloud: error: No space left on device\n"


def fail(error):
    def execute(options):
        raise error

    return execute


def run_with(error, monkeypatch, command="evaluate"):
    changed = program.Command("x", "", fail(error), (), complete=False)
    monkeypatch.setitem(program.COMMANDS, command, changed)
    monkeypatch.setattr(program, "parse", lambda words: (changed, {}))
    return main([command])


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    assert run_with(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == "pcloud: interrupted\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 74.5 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_line_with_a_remedy(error, monkeypatch, capsys):
    assert run_with(error, monkeypatch) == 2
    line = capsys.readouterr().err
    where = "GPU memory" if "CUDA" in str(error) else "memory"
    assert line == f"pcloud: error: not enough {where}\n"
    options = ["batch_size", "max_jets", "seed"]
    assert message(error, options) == (
        f"not enough {where}: a smaller --batch-size or --max-jets needs less"
    )


def test_torch_reports_too_little_memory_so(monkeypatch, capsys):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert message(caught.value) == "not enough memory"


def test_another_error_keeps_its_traceback(monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"):
        run_with(RuntimeError("a bug"), monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        CannotWriteError("a.ckpt", "No space left on device"),
        UnknownNameError("model", "a", ["b"]),
        MissingExtraError("simulating", "pythia8mc", "sim"),
    ],
)
def test_errors_come_back_from_worker_processes(error):
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_rows_are_wider_than_a_log(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_rows([["name", "value"], ["a long name of a quantity", "0.123 \u00b1 0.456"]])
    assert "a long name of a quantity 0.123 \u00b1 0.456" in capsys.readouterr().out


def test_pcloud_alone_shows_the_commands_of_a_normal_day_in_their_order(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split()[1] for line in lines if line.startswith("  pcloud")]
    assert shown == ["inspect", "train", "evaluate", "report", "predict"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_person_is_told_what_comes_next_and_a_script_is_not(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert main(["datasets"]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert (last == "next: pcloud train --data simulated --out runs/first") == is_terminal
