"""The command line: ``pcloud COMMAND ...``.

A command is a function that adds its options and one that does the work. What does the work is
imported then, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

import pcloud
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.training.config import TrainConfig, add_config_arguments, one_line, read_schema

if TYPE_CHECKING:
    from rich.console import Console

    from pcloud.training.run import Run

__all__ = ["build_parser", "main"]

Options = dict[str, Any]

_LISTS = ("--data", "--val", "--test", "--features", "--class-weights", "--freeze")

_USER_ERRORS = (
    InputError,
    MissingExtraError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


@dataclass(frozen=True)
class Command:
    """A subcommand: what it says of itself, its options, its work."""

    name: str
    summary: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Options], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 2: something given cannot be used, said in one line; 130: interrupted by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if not arguments:
        parser.print_help()
        return 0
    try:
        options = parser.parse_args(_join_lists(arguments)).as_dict()
        name = options["command"]
        with _warnings_in_one_line():
            _COMMANDS[name].run(options[name])
    except ArgumentError as error:
        return _complain(_explain(error, parser, arguments))
    except _USER_ERRORS as error:
        return _complain(_message(error))
    except KeyboardInterrupt:
        again = "; the same command continues it" if arguments[0] == "train" else ""
        sys.stderr.write(f"pcloud: interrupted{again}\n")
        return 130
    return 0


def build_parser() -> ArgumentParser:
    """The parser of all commands."""
    parser = _parser(description=pcloud.__doc__.partition("\n")[0], prog="pcloud")
    parser.add_argument(
        "--version", action="version", version=pcloud.__version__, help="Print the version."
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", title="commands")
    for command in _COMMANDS.values():
        sub = _parser(description=command.summary)
        command.add_options(sub)
        sub.usage = _usage(command.name, sub)
        commands.add_subcommand(command.name, sub, help=command.summary)
    return parser


def _parser(**settings: Any) -> ArgumentParser:
    return ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        print_config=None,
        formatter_class=_HelpFormatter,
        **settings,
    )


def _usage(name: str, parser: ArgumentParser) -> str:
    positional = [a.dest.upper() for a in parser._actions if not a.option_strings]
    return " ".join(["pcloud", name, *positional, "[options]"])


class _HelpFormatter(DefaultHelpFormatter):
    """Help with the default where there is one, and without the names of Python types."""

    def _get_help_string(self, action: Action) -> str:
        default = action.default
        if default is None or default is False or default in (SUPPRESS, {}):
            return action.help or ""
        values = default if isinstance(default, list) else [default]
        return f"{action.help} (default: {' '.join(map(str, values))})"

    def _format_action_invocation(self, action: Action) -> str:
        # jsonargparse adds --data+ to --data, which nobody needs to see
        return re.sub(r", --\S+\+ .*", "", super()._format_action_invocation(action))


# train


def _train_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of the options below, such as the config.yaml of another run; "
        "options beside it go before it.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Start anew in a folder that holds a run."
    )
    _add_quiet(parser)
    add_config_arguments(parser)


def _train(options: Options) -> None:
    run_options = {"overwrite": options.pop("overwrite"), "progress": not options.pop("quiet")}
    options.pop("config")
    config = TrainConfig.from_dict(options)
    from pcloud.training.fit import train

    train(config, **run_options)


# evaluate


def _evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run.")
    parser.add_argument(
        "--data",
        type=str,
        nargs="+",
        help="Other jets than the run's: a data set by name, or files. The results go to "
        "evaluations/ in the folder of the run.",
    )
    parser.add_argument(
        "--split", type=str, default="test", help="Split of the run's data or the data set."
    )
    parser.add_argument(
        "--name", type=str, help="Name of the evaluation; by default that of the first file."
    )
    parser.add_argument("--data-root", type=str, help="Folder of the public data sets.")
    _add_reading(parser)
    _add_network(parser)
    parser.add_argument(
        "--efficiencies",
        type=float,
        nargs="+",
        default=[0.3, 0.5],
        help="Signal efficiencies at which to give the background rejection.",
    )
    parser.add_argument(
        "--signal", type=str, help="Signal class; by default the second of two, or each in turn."
    )
    parser.add_argument(
        "--background", type=str, help="One class against which to rank each other class."
    )
    parser.add_argument(
        "--bootstrap", type=int, default=200, help="Resamplings for the bootstrap errors."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the resamplings.")
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="Change the run's test jets too (energies, particles, angles), measure what that does, "
        "what passes a cut against pT, mass and multiplicity, and the sculpting of the mass.",
    )
    parser.add_argument("--robustness-jets", type=int, default=2000, help="Jets to change.")
    parser.add_argument(
        "--simulations",
        type=int,
        default=0,
        help="With --robustness, jets to simulate with each of some other settings of Pythia.",
    )


def _evaluate(options: Options) -> None:
    from pcloud.training.run import Run

    run = Run(options["run"])
    if options["robustness"] and options["data"]:
        raise InputError("--robustness is about the run's own test jets: leave --data out")
    from pcloud.training.scoring import evaluate_run

    reading = _reading(options)
    if options["data_root"] is not None:
        reading["data_root"] = options["data_root"]
    data = options["data"]
    table, folder = evaluate_run(
        run,
        data[0] if data and len(data) == 1 else data,
        split=options["split"],
        name=options["name"],
        checkpoint=options["checkpoint"],
        batch_size=options["batch_size"],
        metrics={
            "efficiencies": options["efficiencies"],
            "signal": options["signal"],
            "background": options["background"],
            "num_bootstrap": options["bootstrap"],
            "seed": options["seed"],
        },
        **reading,
    )
    _console().print(table)
    _say(f"written to {folder}")
    if not run.finished:
        _say("the training of this run is not finished")
    if options["robustness"]:
        _evaluate_robustness(run, options)


def _evaluate_robustness(run: Run, options: Options) -> None:
    from rich.progress import Progress

    from pcloud.training.robustness import number_of_scorings, robustness_run

    names = ("signal", "background", "checkpoint", "batch_size", "simulations", "seed")
    chosen = {name: options[name] for name in names}
    total = number_of_scorings(options["simulations"])
    with Progress(console=_console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("changes", total=total)
        stored = robustness_run(
            run,
            jets=options["robustness_jets"],
            advance=lambda: progress.advance(task),
            **chosen,
        )
    _print_rows(stored.robustness.rows())
    _print_rows(stored.sculpting_rows())
    _say(f"written to {run.path / 'robustness.json'}")


# predict


def _predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run.")
    parser.add_argument("file", type=str, help="File of jets, or a glob; labels are not needed.")
    parser.add_argument(
        "-o", "--out", type=str, default="scores.parquet", help="Parquet file to write."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    _add_reading(parser)
    _add_network(parser)
    parser.add_argument(
        "--chunk-size", type=int, default=50_000, help="Jets held in memory at a time."
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="Write calibrated probabilities; pcloud calibrate goes before.",
    )
    _add_quiet(parser)


def _predict(options: Options) -> None:
    from pcloud.training.run import Run

    run = Run(options["run"])
    from rich.progress import Progress

    from pcloud.training.scoring import count_file, predict_file

    reading = _reading(options)
    total = count_file(run, options["file"], reading.get("schema"))
    with Progress(console=_console(stderr=True), disable=not _shows_progress(options)) as progress:
        task = progress.add_task("jets", total=total)
        number = predict_file(
            run,
            options["file"],
            options["out"],
            overwrite=options["overwrite"],
            checkpoint=options["checkpoint"],
            batch_size=options["batch_size"],
            chunk_size=options["chunk_size"],
            calibrated=options["calibrated"],
            advance=lambda jets: progress.advance(task, jets),
            **reading,
        )
    dropped = f", {total - number:,} dropped" if number < total else ""
    _say(f"scores of {number:,} jets{dropped}: {options['out']}")


# calibrate


def _calibrate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run.")
    parser.add_argument(
        "--method",
        type=str,
        default="temperature",
        choices=["temperature", "vector", "isotonic"],
        help="Map that pcloud predict --calibrated uses; all are fitted and compared.",
    )
    _add_network(parser)


def _calibrate(options: Options) -> None:
    from pcloud.training.run import Run

    run = Run(options["run"])
    from pcloud.evaluation import read_scores
    from pcloud.training.calibrate import calibrate_run

    network = {name: options[name] for name in ("checkpoint", "batch_size")}
    stored = calibrate_run(run, options["method"], **network)
    _say(f"fitted on {stored.jets:,} validation jets: {stored.map.describe()}")
    if (run.path / "scores.parquet").exists():
        sample = read_scores(run.path / "scores.parquet")
        for rows in (
            stored.comparison(sample),
            stored.thresholds(sample),
            stored.coverage(sample),
        ):
            _print_rows(rows)
        _say(f"measured on {len(sample.labels):,} test jets")
    else:
        _say(f"pcloud evaluate {run.path} scores the test jets, on which to measure it")
    _say(f"written to {run.path / 'calibration.json'}")


# uncertainty


def _uncertainty_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run, or of an ensemble.")
    parser.add_argument(
        "--method",
        type=str,
        choices=["ensemble", "dropout", "laplace", "variational"],
        help="Where several opinions come from: members of an ensemble, dropout switched on, or "
        "weights of the last layer drawn from their Laplace approximation or from trained "
        "Gaussians; by default ensemble or else laplace.",
    )
    parser.add_argument("--samples", type=int, default=50, help="Opinions, where they are drawn.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of what is drawn.")
    _add_network(parser)


def _uncertainty(options: Options) -> None:
    from pcloud.training.run import Run

    run = Run(options.pop("run"))
    from pcloud.uncertainty.report import measure_uncertainty

    stored = measure_uncertainty(run, **options)
    _print_rows(stored.rows())
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in stored.facts.items()
    )
    _say(f"{facts}; entropies in nats")
    _say(f"written to {run.path / 'uncertainty.parquet'}, a row for each test jet")


# explain


def _explain_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run.")
    parser.add_argument(
        "--method",
        type=str,
        nargs="+",
        default=["taylor"],
        choices=["taylor", "saliency", "integrated_gradients", "smoothgrad", "occlusion"],
        help="taylor: coefficients of the response. The others: which particles and features each "
        "decision rests on, drawn on jets; all but occlusion need captum.",
    )
    parser.add_argument(
        "--jets",
        type=int,
        help="Test jets to look at; by default 2000 for taylor and 200 for the others.",
    )
    parser.add_argument(
        "--pair-jets",
        type=int,
        default=20,
        help="Of these, jets in which to tell pairs of features on one particle from pairs on two, "
        "which takes long.",
    )
    parser.add_argument(
        "--signal", type=str, help="Class to explain; by default the second of two, or all."
    )
    parser.add_argument(
        "--checkpoint",
        type=str,
        default="best",
        choices=["best", "last"],
        help="Weights of the best epoch or of the last.",
    )
    _add_quiet(parser)


def _explain_run(options: Options) -> None:
    from pcloud.training.run import Run

    run = Run(options["run"])
    attribution = [method for method in options["method"] if method != "taylor"]
    if attribution:
        _explain_attribution(run, attribution, options)
    if "taylor" in options["method"]:
        _explain_taylor(run, options)


def _explain_attribution(run: Run, methods: list[str], options: Options) -> None:
    from rich.progress import Progress

    from pcloud.interpret.attribution_run import attribute_run, feature_rows

    with Progress(console=_console(stderr=True), disable=not _shows_progress(options)) as progress:
        task = progress.add_task("methods", total=len(methods))
        found = attribute_run(
            run,
            methods,
            signal=options["signal"],
            jets=options["jets"] or 200,
            checkpoint=options["checkpoint"],
            advance=lambda number: progress.advance(task, number),
        )
    if rows := feature_rows(found):
        _print_rows(rows)
    if path := found["methods"].get("integrated_gradients"):
        _say(
            f"integrated gradients leave {path['gap']:.2g} of a change of the log-odds of "
            f"{path['change']:.2f} unexplained"
        )
    _say(f"{found['jets']:,} test jets; written to {run.path / 'attribution.json'}")


def _explain_taylor(run: Run, options: Options) -> None:
    from rich.progress import Progress

    from pcloud.interpret.taylor_run import explain_run

    number = options["jets"] or 2000
    with Progress(console=_console(stderr=True), disable=not _shows_progress(options)) as progress:
        task = progress.add_task("jets", total=number)
        found = explain_run(
            run,
            signal=options["signal"],
            jets=number,
            pair_jets=options["pair_jets"],
            checkpoint=options["checkpoint"],
            advance=lambda jets: progress.advance(task, jets),
        )
    for name, values in found["classes"].items():
        rows = [["Taylor coefficient", f"mean |t|, {name}"]]
        _print_rows(rows + [[key, str(t)] for key, t in list(values["parts"]["all"].items())[:15]])
    _say(f"{found['jets']:,} test jets; written to {run.path / 'taylor.json'}")


# report


def _report_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="Folder of the run.")


def _report(options: Options) -> None:
    from pcloud.report import write_report

    _say(str(write_report(options["run"])))


# compare


def _compare_options(parser: ArgumentParser) -> None:
    parser.add_argument("first", type=str, help="File of jets, or a glob.")
    parser.add_argument("second", type=str, help="Other jets.")
    _add_reading(parser)
    parser.add_argument(
        "--classifier",
        type=str,
        default="boosting",
        help="What is to tell them apart: boosting or logistic on observables of the jets, or a "
        "model by name, on their particles.",
    )
    parser.add_argument("--max-jets", type=int, default=20_000, help="Jets of each to look at.")
    parser.add_argument("--permutations", type=int, default=1000, help="For the p-value.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all that is random.")
    parser.add_argument(
        "--run",
        type=str,
        help="Folder of a run: its scores are compared too, and its report shows the result.",
    )
    parser.add_argument("-o", "--out", type=str, help="Folder for the result as JSON and figure.")


def _compare(options: Options) -> None:
    from pcloud.training.shift import compare_files

    found, files = compare_files(
        options["first"],
        options["second"],
        run=options["run"],
        out=options["out"],
        classifier=options["classifier"],
        max_jets=options["max_jets"],
        permutations=options["permutations"],
        seed=options["seed"],
        **_reading(options),
    )
    from pcloud.evaluation.shift import summary

    _print_rows(found.rows())
    _say(summary(found))
    for file in files:
        _say(f"written to {file}")


# convert


def _convert_options(parser: ArgumentParser) -> None:
    parser.add_argument("input", type=str, help="File of jets, or a glob.")
    parser.add_argument(
        "output", type=str, help="File to write: .parquet, .npz, or .h5 (Landscape layout)."
    )
    _add_reading(parser)
    parser.add_argument(
        "--chunk-size", type=int, default=20_000, help="Jets held in memory at a time."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    _add_quiet(parser)


def _convert(options: Options) -> None:
    from pcloud.io import convert

    number = convert(
        options["input"],
        options["output"],
        chunk_size=options["chunk_size"],
        overwrite=options["overwrite"],
        progress=_shows_progress(options),
        **_reading(options),
    )
    _say(f"{number:,} jets: {options['output']}")


# simulate


def _simulate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "output", type=str, help="File to write: .parquet, .npz, or .h5 (Landscape layout)."
    )
    parser.add_argument("-n", "--jets", type=int, default=10_000, help="Number of jets.")
    parser.add_argument(
        "--process",
        type=str,
        default="both",
        choices=["both", "top", "qcd"],
        help="Hadronic top pairs, QCD dijets, or half each.",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="Seed; the jets depend on it, not on the workers."
    )
    parser.add_argument("--workers", type=int, help="Processes; by default one for each processor.")
    parser.add_argument(
        "--mpi", action="store_true", help="With multi-parton interactions, unlike the Landscape."
    )
    parser.add_argument("--tune", type=int, default=14, help="Pythia's pp tune; 14 is Monash 2013.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    _add_quiet(parser)


def _simulate(options: Options) -> None:
    from pcloud.simulate import simulate

    path = simulate(
        options["output"],
        options["jets"],
        process=options["process"],
        seed=options["seed"],
        workers=options["workers"],
        mpi=options["mpi"],
        tune=options["tune"],
        progress=_shows_progress(options),
        overwrite=options["overwrite"],
    )
    _say(f"{options['jets']:,} jets: {path}")


# models, datasets


def _no_options(parser: ArgumentParser) -> None:
    pass


def _models_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="Print all there is to say, operations per jet included, as Markdown.",
    )


def _models(options: Options) -> None:
    from rich.table import Table

    from pcloud.models.registry import list_models
    from pcloud.models.table import model_table, to_markdown

    if options["markdown"]:
        sys.stdout.write(to_markdown(model_table(flops=True)) + "\n")
        return
    shown = ("model", "paper", "year", "parameters", "good for")
    header, *rows = model_table()
    table = Table(*shown, box=None)
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        table.add_row(*(cells[name] for name in shown))
    _console().print(table, "parameters: with 7 inputs and 2 classes", highlight=False)
    _say(f"on images: {', '.join(list_models('image'))}")


def _datasets(options: Options) -> None:
    from rich.table import Table

    from pcloud.datasets import dataset_info, list_datasets

    table = Table("data set", "splits", "classes", "", box=None)
    for name in list_datasets():
        info = dataset_info(name)
        table.add_row(name, ", ".join(info.splits), ", ".join(info.classes), info.description)
    _console().print(table, highlight=False)


# Options that several commands share


def _add_reading(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--schema",
        type=str,
        help="Layout of the file: a name such as landscape or jetclass, or a YAML file with the "
        "fields of a JetSchema; by default recognised.",
    )
    parser.add_argument(
        "--check-units",
        type=bool,
        metavar="{true,false}",
        help="Refuse a file whose energies look as if they were not in the unit of the schema: "
        "true (default) or false.",
    )
    parser.add_argument(
        "--on-bad-jet",
        type=str,
        choices=["error", "drop"],
        help="What to do with a jet that is empty or has NaN, infinite or negative energies: "
        "error (default) or drop.",
    )


def _reading(options: Options) -> Options:
    """How to read a file, as far as it was said."""
    reading = {name: options[name] for name in ("on_bad_jet", "check_units")}
    reading["schema"] = read_schema(options["schema"])
    return {name: value for name, value in reading.items() if value is not None}


def _add_network(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=str,
        default="best",
        choices=["best", "last"],
        help="Weights of the best epoch or of the last.",
    )
    parser.add_argument(
        "--batch-size", type=int, default=512, help="Jets at a time; no score depends on it."
    )


def _add_quiet(parser: ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="Show no progress.")


def _shows_progress(options: Options) -> bool:
    """Whether to move a bar: on a terminal alone."""
    return sys.stderr.isatty() and not options["quiet"]


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _print_rows(rows: list[list[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=i == 0)
    for row in rows[1:]:
        table.add_row(*row)
    _console().print(table)
    _console().print()


def _say(line: str) -> None:
    _console().print(line, soft_wrap=True, highlight=False)


_COMMANDS = {
    command.name: command
    for command in (
        Command("train", "Train a tagger, or continue training it.", _train_options, _train),
        Command("evaluate", "Measure a trained tagger.", _evaluate_options, _evaluate),
        Command("predict", "Score the jets of a file.", _predict_options, _predict),
        Command("calibrate", "Make scores probabilities.", _calibrate_options, _calibrate),
        Command("uncertainty", "Say how sure a tagger is.", _uncertainty_options, _uncertainty),
        Command("explain", "Rank what a tagger looks at.", _explain_options, _explain_run),
        Command("report", "Make figures and a page of a run.", _report_options, _report),
        Command("compare", "Test whether jets differ.", _compare_options, _compare),
        Command("convert", "Convert a file of jets.", _convert_options, _convert),
        Command("simulate", "Simulate top and QCD jets.", _simulate_options, _simulate),
        Command("models", "List the models.", _models_options, _models),
        Command("datasets", "List the data sets.", _no_options, _datasets),
    )
}


# Errors


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show warnings of ours as lines of their own, and no others."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if category.__module__.startswith("pcloud"):
            sys.stderr.write(f"pcloud: warning: {' '.join(str(message).split())}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _complain(message: str) -> int:
    sys.stderr.write(f"pcloud: error: {message}\n")
    return 2


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


def _explain(error: ArgumentError, parser: ArgumentParser, arguments: list[str]) -> str:
    """What is wrong with the arguments, with the nearest name where one is unknown."""
    message = one_line(error)
    unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
    in_file = re.search(r"does not accept option '([\w.]+)'", message)
    command = re.search(r"invalid choice: '([^']*)' \(choose from", message)
    if command and "COMMAND" in message:
        return str(UnknownNameError("command", command[1], _COMMANDS))
    if "Problems parsing config" in message:
        return f"{arguments[arguments.index('--config') + 1]}: {message}"
    if unknown or in_file:
        name = unknown[1] if unknown else "--" + in_file[1].replace("_", "-")  # type: ignore[index]
        return str(UnknownNameError("option", name, _option_names(arguments[0])))
    return message


def _option_names(command: str) -> list[str]:
    parser = _parser()
    if command in _COMMANDS:
        _COMMANDS[command].add_options(parser)
    return [name for name in parser._option_string_actions if name.startswith("--")]


def _join_lists(arguments: list[str]) -> list[str]:
    """``--data a b`` as ``--data '["a", "b"]'``: the options of `train` that may be lists."""
    if arguments[0] != "train":
        return arguments
    groups: list[list[str]] = []  # an option with its values
    for word in arguments:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append(word)
    return [word for option, *values in groups for word in (option, *_as_list(option, values))]


def _as_list(option: str, values: list[str]) -> list[str]:
    if option not in _LISTS or len(values) < 2:
        return values
    quoted = values if option == "--class-weights" else map(json.dumps, values)
    return [f"[{', '.join(quoted)}]"]
