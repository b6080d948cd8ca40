"""`Run`: a trained tagger, its predictions, and the studies of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pcloud.errors import InputError
from pcloud.given_jets import is_given, name_of
from pcloud.run_files import (
    ENVIRONMENT_FILE,
    SCORES_FILE,
    Advance,
    ignore_progress,
)
from pcloud.text import for_html, for_terminal
from pcloud.training.environment import read_environment
from pcloud.training.history import History
from pcloud.training.run_folder import RunFolder
from pcloud.training.state import lower_is_better
from pcloud.words import number_of

if TYPE_CHECKING:
    import awkward as ak
    from matplotlib.figure import Figure

    from pcloud.evaluation import EvaluationTable
    from pcloud.evaluation.calibration_file import StoredCalibration
    from pcloud.evaluation.shift import ShiftTest
    from pcloud.export import ExportedFile
    from pcloud.studies.attribution import StoredAttribution
    from pcloud.studies.generate import Generated
    from pcloud.studies.generation import StoredGeneration
    from pcloud.studies.intervals import StoredIntervals
    from pcloud.studies.predict import Prediction
    from pcloud.studies.robustness import StoredRobustness
    from pcloud.studies.taylor import StoredTaylor
    from pcloud.studies.uncertainty import StoredUncertainty

__all__ = ["Run"]

Out: TypeAlias = "str | Path | None"
"""Folder for results; None for the folder of the run."""

_READING = ("schema", "data_root", "on_bad_jet", "check_units")


class Run(RunFolder):
    """A trained tagger in its folder: predictions, studies, figures and the report.

    Every study writes its result into the folder, where :meth:`report` finds it, and returns it; a
    result prints as a table.

    Parameters
    ----------
    path : path
        Folder that training wrote.
    trust_code : bool
        Run Python code that the folder names as its model, even if it is not code that this user
        has trained with.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    InputError
        If it is not the folder of a run.

    Examples
    --------
    >>> run = pcloud.Run("runs/a")  # doctest: +SKIP
    >>> print(run.evaluate())  # doctest: +SKIP
    >>> scores = run.predict(pcloud.read_jets("jets.h5"))  # doctest: +SKIP
    >>> page = run.report()  # doctest: +SKIP
    """

    def __repr__(self) -> str:
        facts = [for_terminal(fact) for fact in self._facts()]
        return "\n  ".join([f"Run({str(self.path)!r})", *facts])

    def _repr_html_(self) -> str:
        facts = "".join(f"<br>{for_html(fact)}" for fact in self._facts())
        return f"<div><strong>Run</strong> <code>{for_html(str(self.path))}</code>{facts}</div>"

    def _facts(self) -> list[str]:
        """Model, data and progress, a line each; a file that cannot be read is named."""
        facts = []
        try:
            config = self.config
        except InputError as error:
            return [" ".join(str(error).split())]
        data = config.data if isinstance(config.data, str) else ", ".join(map(str, config.data))
        model = f"{config.ensemble} x {config.model}" if config.ensemble > 1 else config.model
        facts.append(f"{model} on {data}")
        try:
            facts.append(_progress(self.history, self._is_marked_finished(), config.monitor))
        except FileNotFoundError:
            facts.append("no epoch is finished")
        except InputError as error:
            facts.append(" ".join(str(error).split()))
        return facts

    def _is_marked_finished(self) -> bool:
        if not (self.path / ENVIRONMENT_FILE).exists():
            return False
        return bool(read_environment(self.path).get("finished"))

    def evaluate(
        self,
        data: str | Sequence[str] | ak.Array | None = None,
        *,
        split: str = "test",
        name: str | None = None,
        checkpoint: str = "best",
        batch_size: int = 512,
        out: Out = None,
        **options: Any,
    ) -> EvaluationTable:
        """Score labelled jets and measure the performance on them.

        Writes ``scores.parquet`` and ``metrics.json``: for the test jets of the run into its
        folder, for other jets into ``evaluations/<name>`` there. Results of other inputs are never
        replaced.

        Parameters
        ----------
        data : str, sequence of str or awkward.Array, optional
            A data set by name, files, or labelled jets; by default the jets of the run.
        split : str
            Split of the run or of the data set.
        name : str, optional
            Name of the evaluation; by default that of the split or of the first file, and
            ``"given"`` for jets in an array.
        checkpoint : str
            ``"best"`` or ``"last"``.
        batch_size : int
            Jets per batch.
        out : path, optional
            Folder for the results, by default that of the run.
        **options
            Options of :func:`pcloud.evaluate` (`efficiencies`, `signal`, `background`,
            `num_bootstrap`, `seed`, `metrics`), and of reading files: `schema`, `data_root`,
            `on_bad_jet`, `check_units`.

        Raises
        ------
        InputError
            If the jets do not fit the run: no labels, other classes, absent columns.
        """
        from pcloud.studies.evaluate import evaluate_run

        reading = {key: options.pop(key) for key in _READING if key in options}
        source = name_of(data)
        if is_given(source) and name is None:
            name = "given"
        return evaluate_run(
            self.writing_to(out),
            source,
            split=split,
            name=name,
            checkpoint=checkpoint,
            batch_size=batch_size,
            metrics=options,
            **reading,
        )

    def predict_file(
        self,
        path: str | Sequence[str],
        out: str | Path,
        *,
        advance: Advance = ignore_progress,
        **options: Any,
    ) -> Prediction:
        """Score the jets of files, a chunk at a time, and write the scores to Parquet.

        Parameters
        ----------
        path : str or sequence of str
            Files of jets.
        out : path
            Parquet file to write: ``score_<class>`` for each class, ``label`` if known.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            Options of :func:`pcloud.studies.predict.predict_file`: `overwrite`, `schema`,
            `on_bad_jet`, `check_units`, `checkpoint`, `batch_size`, `chunk_size`, `calibrated`.
        """
        from pcloud.studies.predict import predict_file

        return predict_file(self, path, out, advance=advance, **options)

    def predict_files(
        self,
        paths: str | Sequence[str],
        folder: str | Path,
        *,
        advance: Advance = ignore_progress,
        **options: Any,
    ) -> list[Prediction]:
        """Score the jets of many files, and write one Parquet file of scores for each.

        What is there already stays: an interrupted call continues when it is repeated.

        Parameters
        ----------
        paths : str or sequence of str
            Files, glob patterns or folders.
        folder : path
            Folder of the scores, whose files have the names of the files of jets.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            As for :meth:`predict_file`.
        """
        from pcloud.studies.predict import predict_files

        return predict_files(self, paths, folder, advance=advance, **options)

    def generate(
        self, num_jets: int, *, advance: Advance = ignore_progress, **options: Any
    ) -> ak.Array:
        """Generate jets by a run with the objective ``generate``; as from :func:`pcloud.read_jets`.

        Parameters
        ----------
        num_jets : int
            Number of jets.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            Options of :func:`pcloud.studies.generate.generate_jets`: `seed`, `steps`, `method`,
            `classes`, `checkpoint`.
        """
        from pcloud.studies.generate import generate_jets

        return generate_jets(self, num_jets, advance=advance, **options)

    def generate_file(
        self, num_jets: int, out: str | Path, *, advance: Advance = ignore_progress, **options: Any
    ) -> Generated:
        """Generate jets and write them to a file.

        Parameters
        ----------
        num_jets : int
            Number of jets.
        out : path
            File to write: .parquet, .npz or .h5.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            Options of :meth:`generate`, and `overwrite`.
        """
        from pcloud.studies.generate import generate_file

        return generate_file(self, num_jets, out, advance=advance, **options)

    def evaluate_generator(
        self, *, out: Out = None, advance: Advance = ignore_progress, **options: Any
    ) -> StoredGeneration:
        """Compare the jets of a generator with real jets that it was not trained on.

        Writes ``generation.json``, ``generated.parquet`` and figures.

        Parameters
        ----------
        out : path, optional
            Folder for the results, by default that of the run.
        advance : callable
            Progress callback, called with the part of the generation done.
        **options
            Options of :func:`pcloud.studies.generation.evaluate_generator`: `source`, `jets`,
            `steps`, `method`, `classifiers`, `checkpoint`, `seed`.
        """
        from pcloud.studies.generation import evaluate_generator

        return evaluate_generator(self.writing_to(out), advance=advance, **options)

    def calibrate(
        self,
        method: str = "temperature",
        *,
        checkpoint: str = "best",
        batch_size: int = 512,
        out: Out = None,
    ) -> StoredCalibration | StoredIntervals:
        """Fit calibration maps, thresholds and conformal sets on the validation jets.

        They are written to ``calibration.json``; ``run.predict(jets, calibrated=True)`` uses them.
        Conformal intervals of targets are written to ``intervals.json``, and returned if the run
        learned no classes.

        Parameters
        ----------
        method : {"temperature", "vector", "isotonic"}
            Map to use; all are fitted and compared.
        checkpoint : str
            ``"best"`` or ``"last"``.
        batch_size : int
            Jets per batch.
        out : path, optional
            Folder for the result, by default that of the run.
        """
        from pcloud.studies.calibrate import calibrate_run

        run = self.writing_to(out)
        return calibrate_run(run, method, checkpoint=checkpoint, batch_size=batch_size)

    def uncertainty(
        self,
        method: str | None = None,
        *,
        samples: int = 50,
        jets: int | None = None,
        checkpoint: str = "best",
        batch_size: int = 512,
        seed: int = 0,
        out: Out = None,
        advance: Advance = ignore_progress,
    ) -> StoredUncertainty:
        """Estimate the uncertainty of the scores of the test jets, and of modified test jets.

        Writes ``uncertainty.json`` and ``uncertainty.parquet``.

        Parameters
        ----------
        method : {"ensemble", "dropout", "laplace", "variational"}, optional
            Source of the predictive samples; by default the members of an ensemble, and for a
            single network the Laplace approximation of its last layer.
        samples : int
            Number of predictive samples, where they are drawn.
        jets : int, optional
            Number of test jets; by default all, or as many as the network scores in some minutes.
        checkpoint : str
            ``"best"`` or ``"last"``.
        batch_size : int
            Jets per batch.
        seed : int
            Seed of the random draws.
        out : path, optional
            Folder for the result, by default that of the run.
        advance : callable
            Progress callback, called with the part of the whole work done.
        """
        from pcloud.studies.uncertainty import measure_uncertainty

        return measure_uncertainty(
            self.writing_to(out),
            method,
            samples=samples,
            jets=jets,
            checkpoint=checkpoint,
            batch_size=batch_size,
            seed=seed,
            advance=advance,
        )

    def explain(
        self,
        method: str | Sequence[str] | None = None,
        *,
        signal: str | None = None,
        jets: int | None = None,
        checkpoint: str = "best",
        out: Out = None,
        advance: Advance = ignore_progress,
        **options: Any,
    ) -> StoredTaylor | StoredAttribution:
        """Explain the decisions on the test jets by Taylor coefficients or by attribution.

        Writes ``taylor.json`` or ``attribution.json``.

        Parameters
        ----------
        method : str or sequence of str, optional
            ``"taylor"``, or one or several of ``"saliency"``, ``"integrated_gradients"``,
            ``"smoothgrad"`` and ``"occlusion"``. All of these but occlusion need captum. By default
            ``"taylor"``, or ``"occlusion"`` for a network on images.
        signal : str, optional
            Class to explain; by default the second of two, or each in turn.
        jets : int, optional
            Number of test jets; by default 2000 for Taylor coefficients and 200 for attribution,
            or as many as the network passes in some minutes.
        checkpoint : str
            ``"best"`` or ``"last"``.
        out : path, optional
            Folder for the result, by default that of the run.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            `pair_jets` of :func:`pcloud.studies.taylor.taylor_run`, or options of
            :func:`pcloud.interpret.attribution.attribute`.

        Raises
        ------
        InputError
            If ``"taylor"`` is asked for together with attribution, or does not fit the network.
        UnknownNameError
            If there is no such method or class.
        """
        from pcloud.studies.attribution import default_method

        method = method or default_method(self, checkpoint)
        methods = [method] if isinstance(method, str) else list(method)
        options |= {"signal": signal, "jets": jets, "checkpoint": checkpoint, "advance": advance}
        if methods == ["taylor"]:
            from pcloud.studies.taylor import taylor_run

            return taylor_run(self.writing_to(out), **options)
        if "taylor" in methods:
            raise InputError(
                "taylor and attribution are two results: explain by one after the other"
            )
        from pcloud.studies.attribution import attribute_run

        return attribute_run(self.writing_to(out), methods, **options)

    def robustness(
        self, *, out: Out = None, advance: Advance = ignore_progress, **options: Any
    ) -> StoredRobustness:
        """Measure the robustness to modified jets, dependence on kinematics, mass sculpting.

        Writes ``robustness.json``.

        Parameters
        ----------
        out : path, optional
            Folder for the result, by default that of the run.
        advance : callable
            Progress callback, called with the part of the whole work done.
        **options
            Options of :func:`pcloud.studies.robustness.robustness_run`: `jets`, `efficiency`,
            `signal`, `background`, `checkpoint`, `batch_size`, `simulations`, `workers`, `seed`.
        """
        from pcloud.studies.robustness import robustness_run

        return robustness_run(self.writing_to(out), advance=advance, **options)

    def compare(self, first: str, second: str, *, out: Out = None, **options: Any) -> ShiftTest:
        """Test if the jets of two files differ, in observables and in the scores of this run.

        Writes ``shift/<first>_<second>.json`` and ``.png``.

        Parameters
        ----------
        first, second : str
            Files of jets.
        out : path, optional
            Folder in whose folder ``shift`` the result is written, by default that of the run.
        **options
            Options of :func:`pcloud.studies.compare.compare_files`: `classifier`, `max_jets`,
            `permutations`, `seed`, and those of :func:`pcloud.read_jets`.
        """
        from pcloud.studies.compare import compare_files

        return compare_files(first, second, run=self.writing_to(out), **options)[0]

    def study(self, name: str, **options: Any) -> Any:
        """Do a study by its name, such as one of another package; return its result.

        ``run.writing_to(folder).study(name)`` writes the result into another folder.

        Parameters
        ----------
        name : str
            Name from :func:`pcloud.studies.registry.list_studies`.
        **options
            Options of the study.

        Raises
        ------
        UnknownNameError
            If there is no such study.
        """
        from pcloud.studies.registry import find_study

        return find_study(name)(self, **options)

    def report(self, out: Out = None) -> Path:
        """Write ``report.html`` and ``figures/`` from the files in the folder; return the page.

        Parameters
        ----------
        out : path, optional
            Folder for the page and the figures, by default that of the run. Results of studies are
            looked for there first.
        """
        from pcloud.report import write_report

        return write_report(self.path, self.writing_to(out).out)

    def export(self, path: str | Path, *, overwrite: bool = False, **options: Any) -> ExportedFile:
        """Write an ONNX file from four-momenta to probabilities, after comparing it with this run.

        Parameters
        ----------
        path : path
            File to write, ending in ``.onnx``.
        overwrite : bool
            Replace an existing file.
        **options
            Options of :class:`pcloud.export.ExportOptions`: `padded`, `ragged`,
            `max_particles`, `on_long_jet`, `calibrated`, `checkpoint`, `form`, `jets`, `dtype`,
            `int8`.

        Raises
        ------
        InputError
            If the network cannot be exported, or the graph differs from it.
        MissingExtraError
            If the extra ``onnx`` is not installed.
        """
        from pcloud.export import ExportOptions, export_run

        return export_run(self, path, overwrite=overwrite, options=ExportOptions(**options))

    def plot_history(self) -> Figure:
        """Figure of loss, accuracy, AUC and learning rate against the epoch."""
        from pcloud.evaluation.figures import training_figure

        return training_figure(self.history.curves())

    def roc(self, **options: Any) -> Figure:
        """Figure of the ROC curve of the test jets, from ``scores.parquet``.

        Parameters
        ----------
        **options
            Options of :func:`pcloud.evaluation.figures.roc_figure`: `efficiencies`, `signal`,
            `background`, `num_bootstrap`, `seed`.

        Raises
        ------
        InputError
            If the test jets were not scored: :meth:`evaluate` does it.
        """
        from pcloud.evaluation import read_scores
        from pcloud.evaluation.figures import roc_figure

        path = self.stored(SCORES_FILE)
        if not path.exists():
            raise InputError(
                f"{self.path} has no {SCORES_FILE}: run.evaluate() scores the test jets"
            )
        return roc_figure(read_scores(path), **options)


def _progress(history: History, finished: bool, monitor: str) -> str:
    """Progress of a training: epochs, best value of the monitored metric."""
    state = "finished" if finished else "not finished"
    if not len(history):
        return f"no epoch is finished, training {state}"
    text = f"{number_of(len(history), 'epoch')}, {state}"
    if monitor not in history.columns:
        return text
    values = history.column(monitor)
    best = values.argmin() if lower_is_better(monitor) else values.argmax()
    return f"{text}; best {monitor} {values[best]:.4f} after epoch {history[int(best)]['epoch']:g}"
