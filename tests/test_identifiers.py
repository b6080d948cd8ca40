from __future__ import annotations

import numpy as np
import pytest

from pcloud.identifiers import is_identifier

NUMBERS = np.arange(500)


@pytest.mark.parametrize(
    "name",
    [
        *("event", "eventNumber", "event_number", "evt_id", "run", "runNumber", "lumi"),
        *(
            "luminosityBlock",
            "lumiBlock",
            "entry",
            "entry_file",
            "index",
            "jets/eventNumber",
            "uid",
        ),
    ],
)
def test_identifiers_are_known_by_their_names(name):
    assert is_identifier(name, NUMBERS % 3)


@pytest.mark.parametrize(
    "name",
    ["jet_pt", "nparticles", "trunk", "event_shape", "runtime", "index_of_refraction", "mass"],
)
def test_observables_are_no_identifiers(name):
    assert not is_identifier(name, NUMBERS % 40)
    assert not is_identifier(name, np.random.default_rng(0).normal(size=500))


def test_whole_numbers_that_never_repeat_are_identifiers():
    assert is_identifier("key", NUMBERS + 2**40)
    assert is_identifier("key", NUMBERS.astype(np.float64))
    assert not is_identifier("key", NUMBERS[:50])
    assert not is_identifier("key", NUMBERS + 0.5)
    assert not is_identifier("key", np.where(NUMBERS == 3, np.nan, NUMBERS))
