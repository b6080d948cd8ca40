"""Pages of images, tables and series in their own words: their noun in the place of "jets"."""

from __future__ import annotations

import re
from dataclasses import replace

from matplotlib.figure import Figure
from matplotlib.text import Text

from pcloud.report.blocks import Section

__all__ = ["axes_with_noun", "section_with_noun", "with_noun"]

_JETS = re.compile(r"(?<![\w/.\\-])([Jj])et(s?)(?![\w/-])(?!\.\w)")  # no part of a name or path
_PROSE = re.compile(r"(<(p|figcaption|h3)\b[^>]*>)(.*?)(</\2>)", re.DOTALL)
_TAG = re.compile(r"(<[^>]*>)")


def with_noun(text: str, noun: str) -> str:
    """Text with another noun in the place of jets.

    Parameters
    ----------
    text : str
        Plain text.
    noun : str
        Plural noun, such as ``"images"``.

    Examples
    --------
    >>> with_noun("Jets of one jet: runs/jets, b-jets", "images")
    'Images of one image: runs/jets, b-jets'
    """
    if noun == "jets":
        return text

    def other(match: re.Match[str]) -> str:
        word = noun if match[2] else noun.removesuffix("s")
        return word.capitalize() if match[1] == "J" else word

    replaced = _JETS.sub(other, text)
    single = noun.removesuffix("s")
    if single[0] not in "aeiou":
        return replaced
    return re.sub(rf"\b([Aa]) (?={single}\b)", r"\1n ", replaced)


def section_with_noun(section: Section, noun: str) -> Section:
    """Section whose title, paragraphs and captions have another noun in the place of jets.

    Tables, figures and code stay, since they hold names.
    """
    if noun == "jets":
        return section

    def prose(match: re.Match[str]) -> str:
        parts = _TAG.split(match[3])
        words = "".join(p if p.startswith("<") else with_noun(p, noun) for p in parts)
        return f"{match[1]}{words}{match[4]}"

    return replace(
        section, title=with_noun(section.title, noun), body=_PROSE.sub(prose, section.body)
    )


def axes_with_noun(figure: Figure, noun: str) -> None:
    """Change the labels of the axes of a figure: another noun in the place of jets."""

    def change(text: Text | None) -> None:
        if text is not None:
            text.set_text(with_noun(text.get_text(), noun))

    for axes in figure.axes:
        change(axes.xaxis.label)
        change(axes.yaxis.label)
    change(getattr(figure, "_supxlabel", None))
    change(getattr(figure, "_supylabel", None))
