"""weaver-core's ``ParticleTransformer`` in the settings of the paper."""

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
    # torch.nn.MultiheadAttention, in older versions, has in_proj_weight for in_proj.weight
    return f"{blocks}.{match[2]}.{_IN_BLOCK[match[3]]}" + (f".{match[4]}" if match[4] else "")


_NAMES: Names = [
    (r"embed\.input_bn\.", "embed.0."),
    (r"embed\.embed\.(\d+)\.", lambda m: f"embed.{int(m[1]) + 1}."),
    (r"pair_embed\.embed\.0\.", "pair_bias.embed.norms.0."),
    # a linear map, its normalisation and the activation have three numbers
    (r"pair_embed\.embed\.(\d+)\.", lambda m: _in_pair_embedding(int(m[1]))),
    (
        rf"(cls_)?blocks\.(\d+)\.({'|'.join(map(re.escape, _IN_BLOCK))})(?:[._](weight|bias))?$",
        _in_block,
    ),
    (r"cls_token$", "class_token"),
    (r"fc\.(\d+)\.(?:0\.)?(weight|bias)$", lambda m: f"head.{3 * int(m[1])}.{m[2]}"),
]


def _in_pair_embedding(number: int) -> str:
    layer, kind = divmod(number - 1, 3)
    return (
        f"pair_bias.embed.linears.{layer}." if kind == 0 else f"pair_bias.embed.norms.{layer + 1}."
    )


def part(state: State) -> tuple[dict[str, Any], State]:
    """Sizes and state dict of ours; convolutions with kernel 1 are our linear maps.

    The weights do not tell whether the last activation of the pair embedding is left out
    (``use_pre_activation_pair``); in the paper it is not.
    """
    pair = _widths(state, r"pair_embed\.embed\.\d+\.weight", 3)
    hidden = _widths(state, r"fc\.\d+\.0\.weight", 2)
    sizes = {
        "in_features": len(state["embed.input_bn.weight"]),
        "num_classes": len(state[f"fc.{len(hidden)}.bias"]),
        "embed": _widths(state, r"embed\.embed\.\d+\.weight", 2),
        "pair_embed": pair[:-1] or None,
        "heads": len(state["blocks.0.c_attn"]),
        "layers": _count(state, r"blocks\.(\d+)\."),
        "class_layers": _count(state, r"cls_blocks\.(\d+)\."),
        "hidden": hidden,
    }
    return sizes, rename({k: _linear(k, v) for k, v in state.items()}, _NAMES)


def _widths(state: State, pattern: str, dimensions: int) -> tuple[int, ...]:
    """Outputs of the maps whose names fit, in their order in the file."""
    fits = (v for k, v in state.items() if re.fullmatch(pattern, k))
    return tuple(len(v) for v in fits if v.dim() == dimensions)


def _count(state: State, pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})


def _linear(name: str, value: Tensor) -> Tensor:
    return (
        value.flatten() if name == "cls_token" else value.flatten(1) if value.dim() == 3 else value
    )
