"""Numbers and their nouns."""

from __future__ import annotations

from pcloud.words import number_of


def test_one_is_singular():
    assert number_of(1, "jet") == "1 jet"
    assert number_of(0, "jet") == "0 jets"
    assert number_of(1200, "training jet") == "1,200 training jets"
    assert number_of(2, "class", "classes") == "2 classes"
