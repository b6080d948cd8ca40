"""Freezing parts of a network: weights that stay as they are, and all that goes with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from pcloud.errors import InputError, UnknownNameError

__all__ = ["freeze"]

_REGEX = "re:"


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    r"""Exclude parameters from training.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    patterns : sequence of str
        Names of parameters or modules, such as ``convs.0``; globs over the names of parameters,
        such as ``convs.*.weight``; or regular expressions after ``re:``, such as
        ``re:convs\.[01]\..*``.

    Returns
    -------
    list of torch.nn.Module
        The modules without a parameter left to train. They are to stay in evaluation mode: a
        frozen part computes as in a prediction, its batch normalisations with the statistics they
        have, and without dropout. If they followed the new jets, the features behind frozen
        weights would drift.

    Raises
    ------
    UnknownNameError
        If a pattern fits nothing.
    InputError
        If nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        found = [name for name in parameters if _fits(name, pattern)]
        if not found:
            modules = {name for name, module in model.named_modules() if name}
            raise UnknownNameError("parameter or module", pattern, {*parameters, *modules})
        for name in found:
            parameters[name].requires_grad_(False)
    if not any(p.requires_grad for p in parameters.values()):
        raise InputError(f"nothing is left to train when {', '.join(patterns)} are frozen")
    return [module for module in model.modules() if _is_frozen(module)]


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith(_REGEX):
        try:
            return re.fullmatch(pattern.removeprefix(_REGEX), name) is not None
        except re.error as error:
            raise InputError(f"{pattern!r} is no regular expression: {error}") from error
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
