"""weaver-core's ``ParticleTransformer`` with the settings of the paper."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from pcloud.models.official.state_dict import Names, State, rename

__all__ = ["part"]

_IN_BLOCK = {
    "pre_attn_norm": "norm",
    "attn.in_proj": "attention.qkv",
    "attn.out_proj": "attention.out",
    "c_attn": "attention.head_scale",
    "post_attn_norm": "attention_norm",
    "pre_fc_norm": "feed_forward.norm",
    "fc1": "feed_forward.expand",
    "post_fc_norm": "feed_forward.inner_norm",
    "fc2": "feed_forward.contract",
    "w_resid": "residual_scale",
}


def _in_block(match: re.Match[str]) -> str:
    blocks = "class_blocks" if match[1] else "blocks"
    # Older versions of torch.nn.MultiheadAttention have in_proj_weight instead of in_proj.weight.
    return f"{blocks}.{match[2]}.{_IN_BLOCK[match[3]]}" + (f".{match[4]}" if match[4] else "")


_NAMES: Names = [
    (r"embed\.input_bn\.", "embed.0."),
    (r"embed\.embed\.(\d+)\.", lambda m: f"embed.{int(m[1]) + 1}."),
    (r"pair_embed\.embed\.0\.", "pair_bias.embed.norms.0."),
    # A linear map, its normalisation and its activation take three consecutive numbers.
    (r"pair_embed\.embed\.(\d+)\.", lambda m: _in_pair_embedding(int(m[1]))),
    (
        rf"(cls_)?blocks\.(\d+)\.({'|'.join(map(re.escape, _IN_BLOCK))})(?:[._](weight|bias))?$",
        _in_block,
    ),
    (r"cls_token$", "class_token"),
    (r"fc\.(\d+)\.0\.", lambda m: f"head.{3 * int(m[1])}."),  # hidden layers
    (r"fc\.\d+\.(weight|bias)$", r"head.output.\1"),
]


def _in_pair_embedding(number: int) -> str:
    layer, kind = divmod(number - 1, 3)
    return (
        f"pair_bias.embed.linears.{layer}." if kind == 0 else f"pair_bias.embed.norms.{layer + 1}."
    )


def part(state: State) -> tuple[dict[str, Any], State]:
    """Return options and state dict of our model; convolutions of kernel 1 become linear maps.

    The weights do not show whether the last activation of the pair embedding is omitted
    (``use_pre_activation_pair``). As in the paper, it is applied.
    """
    pair = _widths(state, r"pair_embed\.embed\.\d+\.weight", 3)
    hidden = _widths(state, r"fc\.\d+\.0\.weight", 2)
    sizes = {
        "in_features": len(state["embed.input_bn.weight"]),
        "num_outputs": len(state[f"fc.{len(hidden)}.bias"]),
        "embed_widths": _widths(state, r"embed\.embed\.\d+\.weight", 2),
        "pair_widths": pair[:-1] or None,
        "num_heads": len(state["blocks.0.c_attn"]),
        "num_layers": _count(state, r"blocks\.(\d+)\."),
        "num_class_layers": _count(state, r"cls_blocks\.(\d+)\."),
        "head_widths": hidden,
    }
    return sizes, rename({k: _linear(k, v) for k, v in state.items()}, _NAMES)


def _widths(state: State, pattern: str, dimensions: int) -> tuple[int, ...]:
    """Return the numbers of outputs of the maps whose names match, in the order of the file."""
    fits = (v for k, v in state.items() if re.fullmatch(pattern, k))
    return tuple(len(v) for v in fits if v.dim() == dimensions)


def _count(state: State, pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})


def _linear(name: str, value: Tensor) -> Tensor:
    return (
        value.flatten() if name == "cls_token" else value.flatten(1) if value.dim() == 3 else value
    )
