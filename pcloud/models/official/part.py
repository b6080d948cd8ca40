"""weaver-core's ``ParticleTransformer``: the network of the paper, and its versions 2 and 3."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from pcloud.errors import InputError
from pcloud.models.official.state_dict import Names, State, rename, shown_names

__all__ = ["part"]

_IN_BLOCK = {
    "pre_attn_norm": "norm",
    "attn.in_proj": "attention.qkv",
    "attn.out_proj": "attention.out",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "attn.gate_proj": "attention.gate",
    "c_attn": "attention.head_scale",
    "post_attn_norm": "attention_norm",
    "pre_fc_norm": "feed_forward.norm",
    "fc1": "feed_forward.expand",
    "fc1_g": "feed_forward.gate",
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

    The version, the normalisation of queries and keys and the gates are read from the names and
    shapes. The weights do not show whether the last activation of the pair embedding is omitted
    (``use_pre_activation_pair``). As in the paper, it is applied.

    Raises
    ------
    InputError
        If there are no class blocks, as in weaver-core's experimental version 3.6.
    """
    in_features = len(state["embed.input_bn.weight"])
    if not _count(state, r"cls_blocks\.(\d+)\."):
        raise InputError(
            "these weights have no class blocks: networks with a global token, or with the mean of "
            f"the particles, cannot be loaded; found {shown_names(state)}"
        )
    pair = _widths(state, r"pair_embed\.embed\.\d+\.weight", 3)
    embed = _widths(state, r"embed\.embed\.\d+\.weight", 2)
    hidden = _widths(state, r"fc\.\d+\.0\.weight", 2)
    sizes = {
        "in_features": in_features,
        "num_outputs": len(state[f"fc.{len(hidden)}.bias"]),
        "embed_widths": embed,
        "pair_widths": pair[:-1] or None,
        "num_layers": _count(state, r"blocks\.(\d+)\."),
        "num_class_layers": _count(state, r"cls_blocks\.(\d+)\."),
        "head_widths": hidden,
        **_block_options(state, pair, embed[-1]),
    }
    return sizes, rename({k: _linear(k, v) for k, v in state.items()}, _NAMES)


def _block_options(state: State, pair: tuple[int, ...], width: int) -> dict[str, Any]:
    """Return the options of the blocks; the number of heads only if a shape shows it."""
    options: dict[str, Any] = {"version": 1}
    if "blocks.0.c_attn" in state or pair:
        options["num_heads"] = pair[-1] if pair else len(state["blocks.0.c_attn"])
    if "blocks.0.fc1_g.weight" in state:
        options["version"] = 2 if "blocks.0.pre_attn_norm.bias" in state else 3
    norm = state.get("blocks.0.attn.q_norm.weight")
    if norm is not None:
        options |= {"qk_norm": True, "num_heads": width // len(norm)}
    gates = state.get("blocks.0.attn.gate_proj.weight")
    if gates is not None:
        options["gate"] = "channels" if len(gates) == width else "heads"
    return options


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
