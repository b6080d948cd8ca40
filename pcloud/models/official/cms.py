"""CMS's ParticleNet of two collections, trained with weaver-core."""

from __future__ import annotations

from typing import Any

from pcloud.models.official.state_dict import Names, State, rename

__all__ = ["cms_particlenet"]

_COLLECTIONS = ("pf_conv", "sv_conv")
_EDGES: Names = [
    (r"pn\.edge_convs\.(\d+)\.convs\.0\.weight", r"convs.\1.edge.weight"),
    (
        r"pn\.edge_convs\.(\d+)\.convs\.(\d+)\.weight",
        lambda m: f"convs.{m[1]}.linears.{int(m[2]) - 1}.weight",
    ),
    (r"pn\.edge_convs\.(\d+)\.bns\.", r"convs.\1.norms."),
    (r"pn\.edge_convs\.(\d+)\.sc\.weight", r"convs.\1.shortcut.0.weight"),
    (r"pn\.edge_convs\.(\d+)\.sc_bn\.", r"convs.\1.shortcut.1."),
    (r"pn\.fusion_block\.", "fusion."),
    (r"pn\.fc\.0\.0\.", "head.0."),
    (r"pn\.fc\.1\.", "head.output."),
]


def cms_particlenet(state: State) -> tuple[dict[str, Any], State]:
    """Return options and state dict of our model; convolutions of kernel 1 become linear maps."""
    names = [name for name in _COLLECTIONS if f"{name}.conv.0.weight" in state]
    sizes = [len(state[f"{name}.conv.0.weight"]) for name in names]
    blocks = len({key.split(".")[2] for key in state if key.startswith("pn.edge_convs.")})
    widths = [len(state[f"pn.edge_convs.{i}.sc_bn.weight"]) for i in range(blocks)]
    options = {
        "in_features": max(sizes, default=0),
        "num_outputs": len(state["pn.fc.1.bias"]),
        "collections": tuple(sizes),
        "embed_width": len(state["pf_conv.conv.2.weight"]),
        "widths": tuple((width,) * 3 for width in widths),
        "fusion_width": len(state["pn.fusion_block.1.weight"]),
        "head_widths": (len(state["pn.fc.0.0.bias"]),),
    }
    embeddings: Names = [
        (rf"{name}\.conv\.{layer}\.", rf"embed.{ours}.{i}.")
        for i, name in enumerate(names)
        for layer, ours in enumerate(("norms", "linears", "out_norms"))
    ]
    linear = {key: w.flatten(1) if w.dim() > 2 else w for key, w in state.items()}
    return options, rename(linear, [*embeddings, *_EDGES])
