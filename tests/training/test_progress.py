from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
from rich.console import Console

from pcloud.training import progress


@pytest.mark.parametrize("installed", [True, False])
def test_a_bar_moves_in_a_notebook_that_has_widgets(monkeypatch, installed):
    spec = SimpleNamespace() if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    notebook = Console(force_jupyter=True, force_terminal=False)
    assert progress.can_move(notebook) is installed


def test_a_bar_moves_on_a_terminal_and_not_in_a_file():
    assert progress.can_move(Console(force_terminal=True))
    assert not progress.can_move(Console(force_terminal=False))
