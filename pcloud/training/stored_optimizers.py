"""Optimizers of torch with changes: Adam in one pass, L-BFGS with L2 decay, and NAdam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.training.optimizer_state import matching_state

__all__ = ["LBFGS", "Adam", "AdamW", "NAdam"]

_HISTORY = 10  # pairs of steps and changes of the gradient
_NUMBERS = ("func_evals", "n_iter", "t", "prev_loss")
_VECTORS = ("d", "prev_flat_grad", "H_diag")
_LISTS = ("old_dirs", "old_stps", "ro", "al")
_FUSED_DEVICES = {"cpu", "cuda", "mps", "xpu"}


class _OnePass:
    """Adam or AdamW of torch whose step is one operation for all parameters of a group.

    The fused step of torch still counts the steps of each parameter by itself, which for a small
    network on a CPU takes longer than the step. Here, parameters that begin together share one
    count. A stored state of the form with several operations is continued in that form.
    """

    _update: Callable[..., Any]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        groups = self.param_groups  # type: ignore[attr-defined]
        if not all(group["fused"] and _is_uniform(group) for group in groups):
            return super().step(closure)  # type: ignore[misc]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in groups:
            self._step_of_group(group)
        return loss

    def _step_of_group(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        states = [self.state[p] for p in parameters]  # type: ignore[attr-defined]
        count = None
        for p, state in zip(parameters, states, strict=True):
            if not state:
                count = torch.zeros((), device=p.device) if count is None else count
                state |= {"step": count, "exp_avg": torch.zeros_like(p)}
                state["exp_avg_sq"] = torch.zeros_like(p)
        steps = [state["step"] for state in states]
        for step in {step.data_ptr(): step for step in steps}.values():
            step.add_(1)
        self._update(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class Adam(_OnePass, torch.optim.Adam):
    """Adam in one operation for each group of parameters, where the device has it."""

    _update = staticmethod(torch._fused_adam_)

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        fused = _can_fuse(groups)
        super().__init__(groups, lr=lr, fused=fused, foreach=not fused)
        self._step_supports_amp_scaling = False  # else Lightning does not clip gradients


class AdamW(_OnePass, torch.optim.AdamW):
    """AdamW in one operation for each group of parameters, where the device has it."""

    _update = staticmethod(torch._fused_adamw_)

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        fused = _can_fuse(groups)
        super().__init__(groups, lr=lr, fused=fused, foreach=not fused)
        self._step_supports_amp_scaling = False  # else Lightning does not clip gradients


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """True if the devices of all parameters have the step of Adam as one operation."""
    return {p.device.type for group in groups for p in group["params"]} <= _FUSED_DEVICES


def _is_uniform(group: dict[str, Any]) -> bool:
    """True if all parameters of a group are on one device and of one type."""
    return len({(p.device, p.dtype) for p in group["params"]}) == 1


class LBFGS(torch.optim.LBFGS):
    """L-BFGS with a line search, for small networks and batches of all jets.

    A step evaluates the loss up to 20 times. The decay of a group is an L2 term of the loss.

    Parameters
    ----------
    groups : list of dict
        Groups of parameters with `weight_decay`, all with one learning rate.
    lr : float
        Length of the first step that the line search tries, usually 1.

    Raises
    ------
    InputError
        If a group has a learning rate of its own.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        if any(group.get("lr", lr) != lr for group in groups):
            raise InputError("lbfgs has one learning rate: lr_head_factor must be 1")
        self._decayed = [(p, g["weight_decay"]) for g in groups for p in g["params"]]
        parameters = [p for p, _ in self._decayed]
        super().__init__(parameters, lr=lr, history_size=_HISTORY, line_search_fn="strong_wolfe")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Minimise the loss that `closure` computes with its gradients."""

        def with_decay() -> Any:
            with torch.enable_grad():
                loss = closure()
            for p, decay in self._decayed:
                if decay and p.grad is not None:
                    p.grad.add_(p, alpha=decay)
                    loss = loss + decay / 2 * p.square().sum()
            return loss

        return super().step(with_decay)

    def check_state(self, found: Any, place: str) -> dict[str, Any]:
        """Return a stored state, if it is one of an optimizer of as many parameters.

        Raises
        ------
        InputError
            If a value has another type, or a tensor has another shape or has NaN.
        """
        number = sum(p.numel() for p, _ in self._decayed)
        groups = matching_state(
            found.get("param_groups"), self.state_dict()["param_groups"], f"{place}.param_groups"
        )
        state = found.get("state")
        if not isinstance(state, dict) or state.keys() - {0}:
            raise InputError(f"{place}.state: not the state of lbfgs")
        for name, value in state.get(0, {}).items():
            values = value if name in _LISTS and isinstance(value, list) else [value]
            if name not in (*_NUMBERS, *_VECTORS, *_LISTS) or len(values) > _HISTORY:
                raise InputError(f"{place}.state.{name}: not the state of lbfgs")
            for one in values:
                is_tensor = isinstance(one, Tensor) and one.numel() in (1, number)
                if isinstance(one, int | float) or one is None:
                    continue
                if not is_tensor or not torch.isfinite(one).all():
                    raise InputError(f"{place}.state.{name}: not {number} numbers")
        return {"state": state, "param_groups": groups}


class NAdam(torch.optim.NAdam):
    """NAdam that continues bit for bit from its state, also in double precision."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; torch converts one of its numbers to the type of the parameters."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["mu_product"] = state["mu_product"].float()
