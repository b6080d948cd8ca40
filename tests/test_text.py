"""Names as text in terminals, figures and pages, and no other way to print them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import is_math_text
from rich.table import Table
from rich.text import Text

from pcloud.evaluation.figures.style import figure_style, new_figure
from pcloud.terminal import Terminal
from pcloud.text import for_figure, for_html, for_terminal
from pcloud.text_tables import aligned, html_table

SOURCE = Path(__file__).parents[1] / "pcloud"
HOSTILE = [
    "[/]",
    "[bold]x[/bold]",
    ":smile:",
    "$\\frac{$",
    "$x$",
    "_private",
    "a_b^c",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "<script>alert(1)</script>",
    "\"' onload=",
    "a\nb\r\tc",
    "\u202eabc",
    "\u2066x\u2069",
    "\u2028",
    "\ud800",
    "",
    " ",
    "\\",
    "\\$",
    "{0} %s",
]


def shown(*printed, **options):
    """Output of a terminal for what is printed on it."""
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal.width = 300
    terminal.print(*printed, **options)
    return terminal.file.getvalue()


def test_printable_text_is_unchanged():
    for text in ("top", "t → bW", "W± 5 GeV", "µ, é, 日本", "a b_c.d"):
        assert for_terminal(text) == text
        assert for_html(text) == text
        assert for_figure(text) == text


def test_control_characters_are_visible():
    assert for_terminal("\x1b[31m") == "\\x1b[31m"
    assert for_terminal("a\nb") == "a\\nb"
    assert for_terminal("a\nb", lines=True) == "a\nb"
    assert for_terminal("\x9b\u202e\ud800") == "\\x9b\\u202e\\ud800"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_shows_a_name_as_it_is(name):
    visible = for_terminal(name)
    table = Table("x", box=None)
    table.add_row(name)
    table.add_column(name)
    for output in (shown(name, soft_wrap=True), shown(Text(name)), shown(table)):
        assert set(output) - {"\n"} <= set(map(chr, range(32, 127)))
        assert not set(output) & set("\x1b\x07\x9b\r\u202e\u2066")
    assert shown(visible, soft_wrap=True) == f"{visible}\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_figure_shows_a_name_as_it_is(name):
    with figure_style():
        figure, (axes,) = new_figure()
        label = for_figure(name)
        assert not is_math_text(label) or "$" not in label.replace(r"\$", "")
        axes.plot([0, 1], label=label)
        assert len(axes.get_legend_handles_labels()[1]) == (0 if not name else 1)
        axes.set_title(label)
        axes.set_xlabel(rf"{label} efficiency $\varepsilon_S$")
        figure.draw_without_rendering()


def test_any_characters_can_stand_in_a_figure():
    rng = np.random.default_rng(0)
    letters = np.array(list("$\\_^{}%#&~[]<>ab \n\x1b"))
    with figure_style():
        figure, (axes,) = new_figure()
        for _ in range(100):
            name = for_figure("".join(rng.choice(letters, rng.integers(1, 12))))
            axes.text(0, 0, name)
            axes.text(0, 0, rf"{name} $\varepsilon_S$")
        figure.draw_without_rendering()


def test_a_long_name_is_cut_in_a_figure():
    assert len(for_figure("x" * 10_000)) == 80


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_shows_a_name_as_it_is(name):
    for page in (for_html(name), html_table([[name], [name]], caption=name)):
        assert "<script" not in page
        assert not set(page) & set("\x1b\x07\x9b\u202e\u2066\ud800")
    assert not set(for_html(name)) & set("<>\"'")


def test_columns_stay_aligned():
    first, second = aligned([["", "b"], ["\x1b[31m", "c"]]).splitlines()
    assert first.index("b") == second.index("c")


ALLOWED = {
    r"\bConsole\(": ("terminal.py",),
    r"from html import|import html\b": ("text.py",),
    r"parse_math": (),
    r"from_markup|markup=True": (),
    r"\bprint\(": (),
    r"std(out|err)\.write": ("cli/completion.py", "cli/models.py", "cli/streams.py"),
}


@pytest.mark.parametrize("pattern", ALLOWED)
def test_names_have_no_other_way_out(pattern):
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        lines = file.read_text("utf-8").splitlines()
        code = [line for line in lines if ">>>" not in line and "..." not in line]
        if any(re.search(rf"(?<![.\w]){pattern}|(?<=sys\.){pattern}", line) for line in code):
            found.append(file.relative_to(SOURCE).as_posix())
    assert [file for file in found if file not in ALLOWED[pattern]] == []
