"""The command ``metaloop``. Each subcommand imports its modules when it runs, so that help appears at once."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from metaloop import __version__
from metaloop.cli import help_texts
from metaloop.config.exit_codes import run_and_exit_code
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 success, 1 an error in metaloop, 2 of the user, 128 + N the signal N.

    Args:
        argv: Words after ``metaloop``; None for those of this process.
    """
    # OpenMP threads that spin while they wait almost stop a second run on the machine. Without spinning, a single run is a
    # tenth slower. A short spin avoids both. It must be set before torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    return run_and_exit_code(_dispatch, sys.argv[1:] if argv is None else argv)


def _dispatch(argv: list[str]) -> int:
    if not argv:
        print(help_texts.TOP, file=sys.stderr)
        return 2
    word, *rest = argv
    if word == "help" and rest and rest[0] in COMMANDS:
        return COMMANDS[rest[0]](["--help"])
    if word in ("-h", "--help", "help"):
        print(help_texts.TOP)
        return 0
    if word in ("--version", "-V", "version"):
        print(f"metaloop {__version__}")
        return 0
    if word not in COMMANDS:
        near = did_you_mean(word, [*COMMANDS, "--help", "--version"], also=_OTHER_WORDS)
        raise UserError(f"there is no command {word!r}; {near}commands: {', '.join(COMMANDS)}")
    if any(each.startswith(("--config-dir", "-cd")) for each in rest):
        from metaloop.config.folder import make_importable, split_config_dirs

        config_dirs, others = split_config_dirs(rest)
        make_importable(config_dirs)
        resumes = any(each.startswith("resume=") and each not in ("resume=auto", "resume=null") for each in rest)
        if word in _OPENS_RUNS or (word == "train" and resumes):  # they compose nothing and need the packages alone
            rest = others
    with ExitStack() as stack:
        if word in (*_BUILDS_RUNS, "sweep") and any(each.startswith("trust=") for each in rest):
            from metaloop.config.trust import trusting

            rest = stack.enter_context(trusting(rest))
        if word in (*_BUILDS_RUNS, "sweep") and any(each.startswith("data_changed=") for each in rest):
            from metaloop.records.contents import allowing_changes

            rest = stack.enter_context(allowing_changes(rest))
        return COMMANDS[word](rest)


def _train(argv: list[str]) -> int:
    if _wants_help(argv, help_texts.TRAIN):
        return 0
    if ("-m" in argv or "--multirun" in argv) and not any(_is_hydras(word) for word in argv):
        from metaloop.cli import sweep as command

        return command.multirun(argv)
    from metaloop.cli import train

    return train.main(argv)


def _is_hydras(word: str) -> bool:
    """Whether a word of a multirun needs Hydra itself: another sweeper, or showing something without running."""
    return word in ("-c", "-i") or word.startswith(("hydra/sweeper=", "hydra.sweeper.", "--cfg", "--info", "--hydra-help"))


def _sweep(argv: list[str]) -> int:
    from metaloop.cli import sweep as command

    return command.main(argv)


def _evaluate(argv: list[str]) -> int:
    if _wants_help(argv, help_texts.EVALUATE):
        return 0
    from metaloop.evaluation import evaluate

    return evaluate.main(argv)


def _predict(argv: list[str]) -> int:
    if _wants_help(argv, help_texts.PREDICT):
        return 0
    from metaloop.cli import predict

    return predict.main(argv)


def _play(argv: list[str]) -> int:
    if _wants_help(argv, help_texts.PLAY):
        return 0
    from metaloop.evaluation.playing import command

    return command.main(argv)


def _recommend(argv: list[str]) -> int:
    parser = help_texts.parser("recommend", help_texts.RECOMMEND)
    parser.add_argument("table", metavar="TABLE", help="CSV, TSV or JSON with a column of classes")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="label=, ignore=, categories=, run=")
    parser.add_argument("--features", action="store_true", help="also print all meta-features of the table")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="number of learners to name (default: 3)")
    options = parser.parse_intermixed_args(argv)
    from metaloop.evaluation.recommendation import recommend

    recommend(options.table, options.words, options.top, features=options.features)
    return 0


def _wants_help(argv: list[str], text: str) -> bool:
    """Print metaloop's help in place of Hydra's if it is requested, and return whether it is."""
    requested = "-h" in argv or "--help" in argv
    if requested:
        print(text)
    return requested


def _report(argv: list[str]) -> int:
    from metaloop.cli import report as report_command

    return report_command.report(argv)


def _compare(argv: list[str]) -> int:
    from metaloop.cli import report as report_command

    return report_command.compare(argv)


def _reproduce(argv: list[str]) -> int:
    from metaloop.cli import report as report_command

    return report_command.reproduce(argv)


def _study(argv: list[str]) -> int:
    from metaloop.cli import study

    return study.main(argv)


def _inspect(argv: list[str]) -> int:
    parser = help_texts.parser("inspect", help_texts.INSPECT)
    parser.add_argument("run", metavar="DIR", help="a run directory")
    parser.add_argument("--episodes", type=int, default=50, metavar="N", help="number of meta-test episodes (default: 50)")
    parser.add_argument("--steps", type=int, metavar="N", help="inner steps (default: those of the run's meta-test)")
    parser.add_argument("--unfinished", action="store_true", help="use the best checkpoint so far of a run that was stopped")
    options = parser.parse_args([word.removeprefix("run=") for word in argv])
    for name, value, least in (("episodes", options.episodes, 2), ("steps", options.steps, 1)):
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: must be at least {least}")
    from metaloop.evaluation import inspection

    inspection.show(inspection.inspect_run(options.run, options.episodes, options.steps, unfinished=options.unfinished))
    return 0


_LISTED = "algorithms, models, datasets, experiments, sweeps, or a group such as algorithm/rule (default: the first five)"


def _list(argv: list[str]) -> int:
    parser = help_texts.parser("list", help_texts.LIST)
    parser.add_argument("kind", nargs="?", help=_LISTED)
    parser.add_argument("beginning", nargs="?", default="", help="beginning of the names to list (default: all)")
    parser.add_argument(
        "--config-dir", "-cd", action="append", default=[], metavar="DIR", help="folder of your own configuration"
    )
    arguments = parser.parse_args(argv)
    from metaloop.config.listing import show

    remarks = {}
    if arguments.kind in ("experiments", "experiment"):
        from metaloop.cli.reproduce import standings

        remarks = standings(arguments.config_dir)
    show(arguments.kind, arguments.config_dir, arguments.beginning, remarks)
    return 0


def _data(argv: list[str]) -> int:
    parser = help_texts.parser("data", help_texts.DATA)
    parser.add_argument("action", help="status, get or verify")
    parser.add_argument("name", nargs="?", help="name of the data set (default: all that can be downloaded)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $METALOOP_DATA, else ./data)")
    arguments = parser.parse_args(argv)
    from metaloop.cli.data import run

    return run(arguments.action, arguments.name, arguments.data_dir or os.environ.get("METALOOP_DATA", "data"))


def _doctor(argv: list[str]) -> int:
    parser = help_texts.parser("doctor", help_texts.DOCTOR)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $METALOOP_DATA, else ./data)")
    arguments = parser.parse_args(argv)
    from metaloop.cli.doctor import doctor

    return doctor(arguments.data_dir or os.environ.get("METALOOP_DATA", "data"), as_json=arguments.json)


def _completion(argv: list[str]) -> int:
    from metaloop.cli.completion import candidates, script

    if argv[:1] == ["--complete"]:  # asked by the scripts
        print(*candidates(argv[1:], list(COMMANDS)), sep="\n")
        return 0
    parser = help_texts.parser("completion", help_texts.COMPLETION)
    parser.add_argument("shell", help="bash, zsh or fish")
    print(script(parser.parse_args(argv).shell), end="")
    return 0


def _new(argv: list[str]) -> int:
    parser = help_texts.parser("new", help_texts.NEW)
    parser.add_argument("kind", help="learner")
    parser.add_argument("name", help="name of the package and of its option, such as my_learner")
    options = parser.parse_args(argv)
    from metaloop.cli.new import write

    for path in write(options.kind, options.name, Path()):
        print(path)
    print(f"train it with  metaloop train --config-dir conf algorithm={options.name}")
    print(f"test it with   python -m pytest test_{options.name}.py")
    return 0


def _wandb(argv: list[str]) -> int:
    parser = help_texts.parser("wandb", help_texts.WANDB)
    parser.add_argument("action", help="sync")
    parser.add_argument("runs", nargs="*", metavar="DIR", help="folders to search at any depth (default: outputs)")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be sent")
    arguments = parser.parse_args(argv)
    if arguments.action != "sync":
        raise UserError(f"wandb {arguments.action}: {did_you_mean(arguments.action, ['sync'])}actions: sync")
    from metaloop.cli.wandb import sync

    return sync([Path(run) for run in arguments.runs or ["outputs"]], dry_run=arguments.dry_run)


_OTHER_WORDS = {"test": ["evaluate"], "eval": ["evaluate"], "run": ["train"], "fit": ["train"], "download": ["data"]}
_BUILDS_RUNS = ("train", "evaluate", "predict", "play", "inspect", "compare")  # these and sweep take trust=
_OPENS_RUNS = ("predict", "play", "inspect", "compare")  # with the config that they were trained with
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "play": _play,
    "recommend": _recommend,
    "sweep": _sweep,
    "inspect": _inspect,
    "report": _report,
    "compare": _compare,
    "reproduce": _reproduce,
    "study": _study,
    "list": _list,
    "data": _data,
    "doctor": _doctor,
    "wandb": _wandb,
    "completion": _completion,
    "new": _new,
}


if __name__ == "__main__":
    sys.exit(main())
