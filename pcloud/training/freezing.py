"""Freezing of parts of a network: parameters that are not trained, and their statistics."""

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
        Modules without a trainable parameter, which must stay in evaluation mode: without dropout
        and with the stored statistics of batch normalisations. With the statistics of new jets
        the outputs of the frozen parts would drift.

    Raises
    ------
    UnknownNameError
        If a pattern matches nothing.
    InputError
        If no parameter is left to train.
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
