"""Attention backend for the `lgatr` package.

`lgatr` finds it through the entry point ``pcloud`` of the group
``lgatr.primitives.attention_backends`` and calls it with flat queries, keys and values of all
particles of a batch. The backends of `lgatr` itself need padded tensors with a mask, or half
precision on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.nn.attention.attention import attend, padding_bias
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.layout import RaggedLayout

__all__ = ["attend_within", "attention", "check_backend", "keep_constants"]

_BACKEND = "pcloud"


@torch.compiler.disable  # each attention is a graph break, and compiling the rest takes minutes
def attend_within(
    net: nn.Module, x: Tensor, scalars: Tensor, layout: RaggedLayout, heads: int
) -> Any:
    """Outputs of a network of `lgatr` in which tokens attend to the tokens of the same jet.

    Parameters
    ----------
    net : Module
        Network of `lgatr`.
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
    return net(x, scalars, backend=_BACKEND, slots=slots, bias=padding_bias(x, slots.layout))


def check_backend() -> None:
    """Check that `lgatr` finds this backend.

    Raises
    ------
    InputError
        If it does not; the message says what to do.
    """
    from lgatr.primitives.attention_backends import get_attention_backend

    try:
        get_attention_backend(backend=_BACKEND)
    except ValueError as error:
        raise InputError(
            "lgatr does not find the attention backend of pcloud, an entry point of the installed "
            "package: install pcloud-hep again"
        ) from error


def keep_constants(net: nn.Module) -> None:
    """Create the cached constants of `lgatr` now, outside inference mode.

    `lgatr` creates them at first use and shares them among all networks of the process. If this
    happens in inference mode, no network can be trained afterwards.
    """
    with torch.inference_mode(False):
        net.to(torch.get_default_dtype())


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, slots: HeadSlots, bias: list[Tensor]
) -> Tensor:
    """Attention of each particle to the particles of its jet, as `lgatr` calls it.

    Parameters
    ----------
    query, key, value : Tensor, shape (heads, N, d)
        Queries, keys and values of all particles of the batch.
    slots : HeadSlots
        Layout of the particles and heads.
    bias : list of Tensor
        Bias of each block, see :func:`~pcloud.nn.attention.attention.attend`.

    Returns
    -------
    Tensor, shape (heads, N, d)
    """
    qkv = torch.stack([t.transpose(0, 1) for t in (query, key, value)], dim=1)
    return attend(qkv, slots, bias, 0.0).unflatten(1, (len(query), -1)).transpose(0, 1)
