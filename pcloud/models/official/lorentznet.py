"""LorentzNet-release's ``LorentzNet``."""

from __future__ import annotations

from typing import Any

from pcloud.models.official.state_dict import Names, State, rename

__all__ = ["lorentznet"]

_BLOCK = r"LGEBs\.(\d+)\."
_NAMES: Names = [
    (r"embedding\.", "embed."),
    (_BLOCK + r"phi_e\.0\.", r"blocks.\1.phi_e.linear."),
    (_BLOCK + r"phi_e\.1\.", r"blocks.\1.phi_e.norm."),
    (_BLOCK + r"phi_e\.3\.", r"blocks.\1.messages.linear."),
    (_BLOCK + r"phi_m\.0\.", r"blocks.\1.messages.phi_m."),
    (_BLOCK + r"phi_x\.", r"blocks.\1.messages.phi_x."),
    (_BLOCK + r"phi_h\.", r"blocks.\1.phi_h."),
    (r"graph_dec\.0\.", "head.0."),
    (r"graph_dec\.3\.", "head.output."),
]


def lorentznet(state: State) -> tuple[dict[str, Any], State]:
    """Return options and state dict of our model, with masses and bounds as in training."""
    sizes = {
        "in_features": 0,
        "num_outputs": len(state["graph_dec.3.bias"]),
        "width": len(state["embedding.bias"]),
        "num_layers": len({key.split(".")[1] for key in state if key.startswith("LGEBs.")}),
        "mass": "stored",
        "limit": 100.0,
    }
    return sizes, rename(state, _NAMES)
