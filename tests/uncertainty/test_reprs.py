from __future__ import annotations

import numpy as np

from pcloud.uncertainty import Uncertainty


def test_uncertainties_show_their_means():
    logits = np.random.default_rng(0).normal(size=(8, 1200, 3))
    found = Uncertainty.of(logits)
    assert repr(found).startswith("Uncertainty of 1,200 jets, means: total (nat) ")
    page = found._repr_html_()
    assert page.count("<tr>") == 5
    assert "<caption>Uncertainty of 1,200 jets</caption>" in page
