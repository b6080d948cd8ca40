"""Study of hyperparameters: trials by optuna, which continue after a kill and share a SQLite file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pcloud.errors import InputError, MissingExtraError
from pcloud.models.registry import check_option_names
from pcloud.models.trust import state_folder
from pcloud.run_files import CONFIG_FILE, make_folder, write_text
from pcloud.studies.search_space import Choices, Range, SearchSpace
from pcloud.studies.tuning import TrialResult, Tuning, value_text
from pcloud.training.config import TrainConfig, overridden
from pcloud.training.constant import NothingLearnedWarning
from pcloud.training.fit import train
from pcloud.training.history import History
from pcloud.training.state import lower_is_better
from pcloud.words import number_of

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise MissingExtraError("tuning", "optuna and cmaes", "tune") from error

__all__ = ["SAMPLERS", "Sampler", "tune"]

Direction = Literal["minimize", "maximize"]
Sampler = Literal["grid", "random", "tpe", "cmaes"]
SAMPLERS: tuple[Sampler, ...] = ("grid", "random", "tpe", "cmaes")
"""Names of the samplers."""

DATABASE = "tuning.db"
"""SQLite file of the trials in the folder of a study."""

_NAME = "pcloud"  # of the study in its file
_WAIT = 60  # seconds that a process waits for another one to write
_MAX_FAILURES = 3  # failed trials, before any other, after which the study ends
_LEAST_TRIALS = 4  # finished trials for an importance
_STARTUP = 5  # trials before any is pruned
_FIRST_PRUNED = 2  # epoch after which a trial can be pruned

_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def tune(
    space: SearchSpace,
    options: Mapping[str, Any],
    *,
    sampler: Sampler = "tpe",
    trials: int = 20,
    hours: float | None = None,
    repeats: int = 3,
    source: str | Path = "the search space",
    given: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> Tuning:
    """Train with different hyperparameters, and repeat the best ones with other seeds.

    The folder ``out`` of the options holds the SQLite file ``tuning.db``, the runs of all trials in
    ``trials/``, those of other seeds in ``repeats/``, ``tuning.json``, and the best configuration as
    ``config.yaml``. After a kill, the same call continues the trials that were running. Several
    processes with the same call share the trials; the last one repeats the best.

    After the first five trials, a trial is pruned at the end of its second or a later epoch if its
    best metric is worse than the median of the other trials at that epoch.

    Parameters
    ----------
    space : SearchSpace
        Options to tune.
    options : mapping
        Options of the training, as for :func:`pcloud.train`; `monitor` is the metric that is tuned.
    sampler : {"grid", "random", "tpe", "cmaes"}
        Sampler: all points of a grid in random order, random values, a tree-structured Parzen
        estimator, or the evolution strategy CMA-ES.
    trials : int
        Number of trials of all processes together; of a grid at most its points.
    hours : float, optional
        Time after which this process starts no further trial.
    repeats : int
        Number of further seeds with which the best trial and the configuration without tuning are
        trained.
    source : path
        Name of the file of the space, for messages on Python code that it names.
    given : mapping, optional
        Options that the user has given, whose Python code may run; by default `options`.
    trust_code : bool
        Run Python code that files name, see :func:`pcloud.train`.
    tell : callable
        Called with a line of text after each trial.

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        If the configuration or the space cannot be used, the folder holds a tuning with others, or
        the first trials fail.

    References
    ----------
    Akiba et al., Optuna, https://arxiv.org/abs/1907.10902; Bergstra et al., Algorithms for
    Hyper-Parameter Optimization, https://papers.nips.cc/paper/4443; Hansen, The CMA Evolution
    Strategy, https://arxiv.org/abs/1604.00772.
    """
    given = options if given is None else given
    study = _Study(space, options, sampler, source, given, trust_code, tell)
    number = min(trials, len(study.points)) if study.points else trials
    end = math.inf if hours is None else time.monotonic() + 3600 * hours
    while time.monotonic() < end and study.run_next(number):
        pass
    return study.finish(repeats)


class _Pruned(Exception):
    """A trial is worse than the others."""


class _Study:
    """A study of optuna in a folder, shared by the processes that work on it."""

    def __init__(
        self,
        space: SearchSpace,
        options: Mapping[str, Any],
        sampler: Sampler,
        source: str | Path,
        given: Mapping[str, Any],
        trust_code: bool,
        tell: Callable[[str], object],
    ) -> None:
        self.space = space
        self.options = options
        self.sampler = sampler
        self.source = source
        self.given = given
        self.trust_code = trust_code
        self.tell = tell
        if not options.get("out"):
            raise InputError("tuning needs out: the folder of the trials")
        self.base = self._config({}, options["out"])
        self._check()
        self.points = space.grid(self.base.seed) if sampler == "grid" else []
        self.folder = make_folder(self.base.out)
        self.direction: Direction = "minimize" if lower_is_better(self.base.monitor) else "maximize"
        with _lock(self.folder / "tuning.lock"):
            self.study = self._opened()

    def _config(self, values: Mapping[str, Any], out: str | Path) -> TrainConfig:
        """Configuration with the values of a trial."""
        options = overridden(self.options, {**values, "out": str(out)})
        return TrainConfig.from_command(options, self.source, self.given)

    def _check(self) -> None:
        """Check every end of the space before anything is trained."""
        if self.base.ensemble > 1:
            raise InputError("one network is tuned at a time: leave out ensemble")
        is_range = [isinstance(part, Range) for part in self.space.parameters.values()]
        if self.sampler == "cmaes" and not any(is_range):
            raise InputError("cmaes needs a range: it cannot tune choices alone")
        for values in self.space.examples():
            try:
                config = self._config(values, self.base.out)
                check_option_names(config.model, config.model_options)
            except InputError as error:
                raise InputError(f"{self.source}: {error}") from error

    def _opened(self) -> optuna.Study:
        """The study in the SQLite file, new or continued."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = self.folder / DATABASE
        if not path.exists() and (self.folder / CONFIG_FILE).exists():
            raise InputError(f"{self.folder} holds a run: take another folder (out)")
        study = optuna.create_study(
            storage=_storage(path),
            study_name=_NAME,
            direction=self.direction,
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=_STARTUP, n_warmup_steps=_FIRST_PRUNED
            ),
            load_if_exists=True,
        )
        settings = {
            "space": self.space.to_dict(),
            "sampler": self.sampler,
            "configuration": self.base.with_absolute_paths().effective(),
        }
        text = json.dumps(settings, sort_keys=True, default=str)
        before = study.user_attrs.get("settings")
        if self.sampler == "cmaes":
            self._check_own(study, is_new=before is None)
        if before is None:
            study.set_user_attr("settings", text)
        elif before != text:
            names = [n for n, v in json.loads(before).items() if v != json.loads(text)[n]]
            raise InputError(
                f"{self.folder} holds a tuning with another {' and '.join(names)}: take another folder "
                "(out)"
            )
        return study

    def _check_own(self, study: optuna.Study, *, is_new: bool) -> None:
        """Check that this user has begun a tuning whose sampler keeps its state as a pickle.

        A pickle can run code. The user's state folder holds the random name of each such tuning.
        """
        if is_new:
            token = secrets.token_hex(16)
            study.set_user_attr("token", token)
            make_folder(state_folder() / "tunings").joinpath(token).touch()
            return
        token = str(study.user_attrs.get("token", ""))
        is_own = re.fullmatch("[0-9a-f]{32}", token) is not None
        is_own = is_own and (state_folder() / "tunings" / token).exists()
        if not (is_own or self.trust_code):
            raise InputError(
                f"{self.folder / DATABASE} is not of a tuning that you have begun, and cmaes reads a "
                "pickle from it, which can run any code: allow it by --trust-code (trust_code=True in "
                "Python), or take another folder (out)"
            )

    def run_next(self, number: int) -> bool:
        """Run a trial that was interrupted, or a new one; return False if there is none left."""
        with contextlib.ExitStack() as stack:
            with _lock(self.folder / "tuning.lock"):
                trial = self._claimed(number, stack)
            if trial is None:
                return False
            self._run(trial)
        return True

    def _claimed(self, number: int, stack: contextlib.ExitStack) -> Trial | None:
        """A trial for this process alone, until the end of `stack`."""
        found = self.study.get_trials(deepcopy=False)
        for one in found:
            if one.state == TrialState.RUNNING and self._is_claimed(one.number, stack):
                return Trial(self.study, one._trial_id)
        waiting = any(one.state == TrialState.WAITING for one in found)  # after a kill
        if len(found) >= number and not waiting:
            return None
        if self.points and not waiting:
            self.study.enqueue_trial(self.space.stored(self.points[len(found)]))
        self.study.sampler = _sampler(self.sampler, self.base.seed + len(found))
        trial = self.study.ask()
        self.space.suggest(trial)  # stored before the lock is left, for a process that continues it
        self._is_claimed(trial.number, stack)
        return trial

    def _is_claimed(self, number: int, stack: contextlib.ExitStack) -> bool:
        """Take a trial for this process, unless another one has it."""
        path = make_folder(self.folder / "trials") / f"{number:04}.lock"
        try:
            stack.enter_context(_lock(path, wait=False))
        except BlockingIOError:
            return False
        return True

    def _run(self, trial: Trial) -> None:
        values = self.space.suggest(trial)
        folder = self._folder(trial.number)
        sign = 1 if self.direction == "minimize" else -1
        seen: list[float] = [sign * v for v in _reported(self.study, trial.number).values()]

        def on_epoch(row: Mapping[str, float]) -> None:
            epoch = int(row["epoch"])
            if epoch in _reported(self.study, trial.number):
                return
            seen.append(sign * row[self.base.monitor])
            trial.report(sign * min(seen), epoch)  # the best so far, which decides in the end
            if trial.should_prune():
                raise _Pruned

        state, value = TrialState.COMPLETE, None
        try:
            metric = self._train(self._config(values, folder), on_epoch)
            value, said = metric, f"{self.base.monitor} {metric:.4g}"
        except _Pruned:
            state, said = TrialState.PRUNED, f"pruned at {sign * min(seen):.4g}"
        except InputError as error:
            state, said = TrialState.FAIL, f"failed: {error}"
            trial.set_user_attr("reason", str(error))
        self.study.tell(trial, value, state=state)
        described = ", ".join(f"{name} {value_text(v)}" for name, v in values.items())
        self.tell(f"trial {trial.number}: {described}: {said}")
        self._give_up()

    def _give_up(self) -> None:
        """End a study whose first trials all fail."""
        states = [t.state for t in self.study.get_trials(deepcopy=False)]
        if states.count(TrialState.FAIL) == _MAX_FAILURES == len(states):
            reason = self.study.get_trials(deepcopy=False)[-1].user_attrs.get("reason", "")
            raise InputError(f"the first {_MAX_FAILURES} trials failed, the last one: {reason}")

    def _train(
        self, config: TrainConfig, on_epoch: Callable[[Mapping[str, float]], object] | None = None
    ) -> float:
        """Best value of the metric of a training, which is continued if it was interrupted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingLearnedWarning)
            run = train(config, progress=False, trust_code=self.trust_code, on_epoch=on_epoch)
        return _best(run.history, config.monitor)

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04}"

    def finish(self, repeats: int) -> Tuning:
        """Repeat the best trial with other seeds, unless trials are still running elsewhere."""
        found = self._result([], {})
        running = [trial.number for trial in found.trials if trial.state == "running"]
        with contextlib.ExitStack() as stack:
            elsewhere = sum(not self._is_claimed(number, stack) for number in running)
        if elsewhere:
            self.tell(f"{number_of(elsewhere, 'trial')} running in other processes, which go on")
            return found
        if found.best is None:
            found.write(self.folder)
            return found
        best = self._config(found.best.values, self.folder / "best")
        write_text(self.folder / CONFIG_FILE, best.with_absolute_paths().to_yaml())
        try:
            with _lock(self.folder / "repeats.lock", wait=False):
                seeds = [self.base.seed + 1 + i for i in range(repeats)]
                repeated: dict[str, list[float]] = {"base": [], "best": []}
                for seed in seeds:
                    for name, values in (("base", {}), ("best", found.best.values)):
                        folder = self.folder / "repeats" / f"{name}_{found.best.number}_{seed}"
                        if name == "base":
                            folder = self.folder / "repeats" / f"base_{seed}"
                        config = self._config({**values, "seed": seed}, folder)
                        repeated[name].append(self._train(config))
                        self.tell(f"{name}, seed {seed}: {repeated[name][-1]:.4g}")
                found = self._result(seeds, repeated)
                found.write(self.folder)
        except BlockingIOError:
            self.tell("another process repeats the best trial")
        return found

    def _result(self, seeds: Sequence[int], repeated: Mapping[str, list[float]]) -> Tuning:
        trials = self.study.get_trials(deepcopy=False)
        return Tuning(
            self.sampler,
            self.base.monitor,
            self.space.to_dict(),
            [self._trial(trial) for trial in trials],
            _importance(self.study, trials, self.base.seed),
            list(seeds),
            dict(repeated),
        )

    def _trial(self, trial: FrozenTrial) -> TrialResult:
        values = {
            name: json.loads(value) if isinstance(self.space.parameters[name], Choices) else value
            for name, value in trial.params.items()
        }
        seen = trial.intermediate_values
        metric = trial.value if trial.value is not None else math.nan
        if trial.value is None and seen:
            metric = seen[max(seen)]
        seconds = trial.duration.total_seconds() if trial.duration else math.nan
        epochs = max(seen, default=0)
        return TrialResult(trial.number, _STATES[trial.state], values, metric, epochs, seconds)


def _best(history: History, monitor: str) -> float:
    values = history.column(monitor)
    return float(np.nanmin(values) if lower_is_better(monitor) else np.nanmax(values))


def _reported(study: optuna.Study, number: int) -> dict[int, float]:
    """Metrics by epoch that a trial has reported."""
    return study.get_trials(deepcopy=False)[number].intermediate_values


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """SQLite file of a study, which is open only while it is read or written."""
    settings = {"connect_args": {"timeout": _WAIT}, "poolclass": NullPool}
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=settings)


def _sampler(name: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    """Sampler of one trial; its seed depends on the number of the trial, not on the process."""
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def _importance(study: optuna.Study, trials: Sequence[FrozenTrial], seed: int) -> dict[str, float]:
    """Importance of each option by fANOVA."""
    values = [t.value for t in trials if t.state == TrialState.COMPLETE]
    names = {name for trial in trials for name in trial.params}
    if len(values) < _LEAST_TRIALS or len(names) < 2 or len(set(values)) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


@contextlib.contextmanager
def _lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which the system drops when the process ends in any way.

    Raises
    ------
    BlockingIOError
        If another process holds it and `wait` is false.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where one process tunes at a time
        yield
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
