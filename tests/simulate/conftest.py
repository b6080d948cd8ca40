"""Jets and events shared by the tests of the simulation."""

from __future__ import annotations

import pytest

from pcloud.io import FlatJets
from pcloud.simulate.block import Settings, make_block


@pytest.fixture(scope="session")
def sim() -> None:
    """Skip where Pythia and FastJet are not installed."""
    for module in ("pythia8mc", "fastjet"):
        reason = f"{module} is not installed: pip install 'pcloud-hep[sim]'"
        pytest.importorskip(module, reason=reason)


@pytest.fixture(scope="session")
def blocks(sim: None) -> dict[str, FlatJets]:
    """60 jets of each process."""
    return {name: make_block(name, 0, Settings(seed=5, block_size=60)) for name in ("top", "qcd")}
