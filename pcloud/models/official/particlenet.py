"""weaver-core's ``ParticleNet``."""

from __future__ import annotations

from typing import Any

from pcloud.models.official.state_dict import Names, State, rename

__all__ = ["particlenet"]

_NAMES: Names = [
    (r"bn_fts\.", "norm."),
    (r"edge_convs\.(\d+)\.convs\.0\.weight", r"convs.\1.edge.weight"),
    (
        r"edge_convs\.(\d+)\.convs\.(\d+)\.weight",
        lambda m: f"convs.{m[1]}.linears.{int(m[2]) - 1}.weight",
    ),
    (r"edge_convs\.(\d+)\.bns\.", r"convs.\1.norms."),
    (r"edge_convs\.(\d+)\.sc\.weight", r"convs.\1.shortcut.0.weight"),
    (r"edge_convs\.(\d+)\.sc_bn\.", r"convs.\1.shortcut.1."),
    (r"fc\.0\.0\.", "head.0."),
    (r"fc\.1\.", "head.output."),
]


def particlenet(state: State) -> tuple[dict[str, Any], State]:
    """Return options and state dict of our model; convolutions of kernel 1 become linear maps."""
    blocks = len({key.split(".")[1] for key in state if key.startswith("edge_convs.")})
    widths = [len(state[f"edge_convs.{i}.sc_bn.weight"]) for i in range(blocks)]
    sizes = {
        "in_features": len(state["bn_fts.weight"]),
        "num_outputs": len(state["fc.1.bias"]),
        "head_widths": (len(state["fc.0.0.bias"]),),
        "k": 16 if blocks == 3 else 7,
        "widths": tuple((width,) * 3 for width in widths),
    }
    linear = {k: v.flatten(1) if v.dim() > 2 else v for k, v in state.items()}
    return sizes, rename(linear, _NAMES)
