"""Our attention as an attention backend of the `lgatr` package.

`lgatr` finds it by the entry point ``pcloud`` of the group ``lgatr.primitives.attention_backends``
and calls it with queries, keys and values of all particles of a batch, flat. Its own backends want
a rectangle with a mask, or half precision on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.nn.attention.attention import HeadSlots, attend, padding_bias
from pcloud.nn.layout import RaggedLayout

__all__ = ["attend_within", "attention", "check_backend", "keep_constants"]

_NAME = "pcloud"


@torch.compiler.disable  # every attention would be a break, and compiling the rest takes minutes
def attend_within(
    net: nn.Module, x: Tensor, scalars: Tensor, layout: RaggedLayout, heads: int
) -> Any:
    """Outputs of a network of `lgatr` whose tokens attend to those of their own jet.

    Parameters
    ----------
    net : Module
        Network.
    x : Tensor, shape (N, ...)
        Multivectors or vectors of all tokens.
    scalars : Tensor, shape (N, S)
        Scalars of all tokens.
    layout : RaggedLayout
        Jets of the batch.
    heads : int
        Number of heads of the network.
    """
    slots = HeadSlots.of(layout, heads)
    return net(x, scalars, backend=_NAME, slots=slots, bias=padding_bias(x, slots.layout))


def check_backend() -> None:
    """Raise an error that says what to do if `lgatr` does not know of our attention."""
    from lgatr.primitives.attention_backends import get_attention_backend

    try:
        get_attention_backend(backend=_NAME)
    except ValueError as error:
        raise InputError(
            "lgatr does not find the attention of pcloud, which its installation announces: "
            "install pcloud-hep again"
        ) from error


def keep_constants(net: nn.Module) -> None:
    """Let a network of `lgatr` make its constants now, for all networks of this process.

    It makes them when they are first needed: if that is in inference mode, no network can be
    trained any more.
    """
    with torch.inference_mode(False):
        net.to(torch.get_default_dtype())


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, slots: HeadSlots, bias: list[Tensor]
) -> Tensor:
    """Attention of each particle to those of its own jet.

    Parameters
    ----------
    query, key, value : Tensor, shape (heads, N, d)
        Of all particles of the batch.
    slots : HeadSlots
        Where they stand.
    bias : list of Tensor
        Of each block, see :func:`~pcloud.nn.attention.attention.attend`.

    Returns
    -------
    Tensor, shape (heads, N, d)
    """
    qkv = torch.stack([t.transpose(0, 1) for t in (query, key, value)], dim=1)
    return attend(qkv, slots, bias, 0.0).unflatten(1, (len(query), -1)).transpose(0, 1)
