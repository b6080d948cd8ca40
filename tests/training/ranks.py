"""Train with two and three processes that talk by gloo, and compare them with one.

Run by `test_ranks.py` as a process of its own: forks share its slow imports. Prints a JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic  # noqa: F401 (training imports both late; every fork would do it again)
import pytorch_optimizer  # noqa: F401
import torch
from torch import distributed

from pcloud import JetDataset, JetLoader, build_model
from pcloud.batch import batch_arguments
from pcloud.errors import InputError
from pcloud.io import read_jets
from pcloud.nn.numerics.batch_norm import over_ranks
from pcloud.nn.numerics.ranks import gathered, sum_over_ranks
from pcloud.training import callbacks, fit
from pcloud.training.decorrelation import Decorrelation
from pcloud.training.state import random_state

FOLDER = Path(sys.argv[1])
OPTIONS: dict[str, Any] = json.loads(sys.argv[2])
STEPS = 40
MODELS: dict[str, dict[str, Any]] = {
    "particlenet": {"k": 3, "widths": [[6, 6], [8, 8]], "head_widths": [8], "dropout": 0.0},
    "part": {
        "embed_widths": [8],
        "pair_widths": [4, 4],
        "num_heads": 2,
        "num_layers": 1,
        "dropout": 0.0,
    },
    "lorentznet": {"width": 6, "num_layers": 2, "dropout": 0.0},
}


class Exact(Decorrelation):
    """Decorrelation in double precision."""

    def values(self, batch: Any) -> torch.Tensor:
        return super().values(batch).double()


def losses(
    name: str, rank: int, world: int, dtype: torch.dtype = torch.float64, steps: int = STEPS
) -> list[float]:
    """Losses of some steps, of the whole batch, whose ranks have different sizes."""
    torch.manual_seed(0)
    data = JetDataset(read_jets(OPTIONS["data"], stop=90), "kin")
    model: Any = build_model(name, in_features=7, num_outputs=2, **MODELS[name])
    model = model.to(dtype).train()
    if world > 1:
        model = torch.nn.parallel.DistributedDataParallel(
            over_ranks(model), broadcast_buffers=False
        )
    penalty = (Exact if dtype == torch.float64 else Decorrelation)("mass", 0.3, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = JetLoader(data, 15, shuffle=True, rank=rank, world=world)
    found: list[float] = []
    while len(found) < steps:
        for batch in loader:
            batch.x, batch.p4 = batch.x.to(dtype), batch.p4.to(dtype)
            logits = model(*batch_arguments(batch))
            each = torch.nn.functional.cross_entropy(logits, batch.y, reduction="none")
            number = float(sum_over_ranks(torch.tensor(float(len(each)))))
            loss = world * each.sum() / number + 0.3 * penalty(logits, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            whole = sum_over_ranks(loss.detach()) / world
            found.append(float(whole))
    return found[:steps]


def losses_of_all(rank: int, world: int) -> dict[str, Any]:
    """Losses of every network: in float64, and of the first step in float32."""
    if not distributed.is_initialized() and world > 1:
        distributed.init_process_group("gloo")
    return {
        name: {
            "float64": losses(name, rank, world),
            "float32": losses(name, rank, world, torch.float32, steps=1),
        }
        for name in MODELS
    }


def train(name: str, **more: Any) -> list[dict[str, float]]:
    run = fit.train(**OPTIONS | {"out": str(FOLDER / name)} | more, progress=False)
    return list(map(dict, run.history))


def compare(rank: int, world: int) -> dict[str, Any]:
    """What two processes do, all of it in one job."""
    if world > 1:
        distributed.init_process_group("gloo")
    found: dict[str, Any] = {"losses": losses_of_all(rank, world)}
    found["gathered"] = gathered(torch.full((rank + 1,), float(rank))).tolist()
    torch.manual_seed(0)
    found["train"] = train(f"whole{world}")
    found["weighted"] = train(
        f"weighted{world}", class_weights=[0.3, 1.7], decorrelate="mass", epochs=1
    )
    found["streamed"] = train(f"streamed{world}", storage="stream", epochs=1)
    found["stopped"] = stopped(f"stopped{world}", rank)
    found["error"] = refused(rank) if world > 1 else None
    return found


def stopped(name: str, rank: int) -> list[dict[str, float]]:
    """Stop by a signal to the last rank, and continue; weights are compared by the caller."""
    after = callbacks.RunCheckpoint.on_train_batch_end
    is_last = rank == int(os.environ.get("WORLD_SIZE", 1)) - 1

    def stop(self: Any, *arguments: Any) -> None:
        if self.state.step == 3 and is_last:
            self.stop.signal = signal.SIGTERM
        after(self, *arguments)

    callbacks.RunCheckpoint.on_train_batch_end = stop  # type: ignore[method-assign]
    with contextlib.suppress(SystemExit):
        train(name)
    callbacks.RunCheckpoint.on_train_batch_end = after  # type: ignore[method-assign]
    return train(name)


def refused(rank: int) -> str:
    """What each rank says of jets that do not exist."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            train("refused", data=str(FOLDER / "absent.parquet"))
        except SystemExit as error:
            return f"exit {error.code}"
        except (InputError, OSError) as error:
            return type(error).__name__
    return ""


def die(rank: int, world: int) -> str:
    """Kill rank 1 in the middle; what rank 0 says."""
    after = callbacks.RunCheckpoint.on_train_batch_end

    def kill(self: Any, *arguments: Any) -> None:
        if self.state.step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        after(self, *arguments)

    callbacks.RunCheckpoint.on_train_batch_end = kill  # type: ignore[method-assign]
    start = time.monotonic()
    try:
        train("killed", checkpoint_steps=2)
    except InputError as error:
        return f"{error} after {time.monotonic() - start:.0f} s"
    return ""


def job(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """Results of a function in forked processes that can form a group; None of killed ones."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        file = FOLDER / f"{work.__name__}-{rank}-{world}.json"
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            if world > 1:
                os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
                os.environ |= {"GROUP_RANK": "0"}
                if sys.platform == "linux":  # also without a network
                    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
            try:
                file.write_text(json.dumps(work(rank, world)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append((child, file))
    for child, _ in children:
        os.waitpid(child, 0)
    return [json.loads(f.read_text()) if f.exists() else None for _, f in children]


def main() -> None:
    found = {"one": job(compare, 1)[0], "two": job(compare, 2)}
    found["three"] = job(losses_of_all, 3)
    if "--kill" in sys.argv:
        found["killed"] = job(die, 2)
        found["continued"] = job(continue_killed, 2)
    sys.stdout.write(f"{json.dumps(found)}\n")


def continue_killed(rank: int, world: int) -> Any:
    """Continue the run that was killed."""
    return train("killed", checkpoint_steps=2)


if __name__ == "__main__":
    random_state()
    main()
