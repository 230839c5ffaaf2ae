"""``metaloop predict``: adapt a finished run to a user's own task and predict."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.config.words.override_values import is_true
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean
from metaloop.system.terminal import printable

if TYPE_CHECKING:  # they import torch, for which the error for a mistyped word should not wait
    from metaloop.evaluation.adapted_model import AdaptedModel
    from metaloop.evaluation.predictions import Predictions
    from metaloop.metrics.interval import Interval
    from metaloop.metrics.proportions import Proportion
    from metaloop.problems.metric import Metric

_COLUMNS, _LISTS = ("text", "path", "label"), ("ignore", "categories")  # names of columns: one, or several
_OF_RATINGS = ("rank", "ask", "rule")
KEYS = (
    *("run", "model", "support", "query"),
    *_COLUMNS,
    *_LISTS,
    *_OF_RATINGS,
    *("steps", "alarm_rate", "unfinished", "out", "save"),
)
_FOLDER = "predictions"
_MODEL = "model.json"  # in the folder of an adapted model
_COMMAND = ["metaloop", "predict"]  # beginning of the command in a record of predictions
_FIRST_COLUMNS = ("row,input,", "item,title,rating,value,")
_SHOWN, _WIDTH = 10, 56  # rows of the table on the screen, and characters of an input


def words(argv: Sequence[str]) -> dict[str, str]:
    """Parse the words of the command into values by key.

    Raises:
        UserError: a word has no value, a key is unknown or given twice, or keys do not fit together.
    """
    values: dict[str, str] = {}
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals and Path(word).exists():
            raise UserError(f"predict {word}: write KEY={word}; keys: {', '.join(f'{each}=' for each in KEYS)}")
        if key not in KEYS:
            raise UserError(f"predict {word}: {did_you_mean(key, KEYS)}keys: {', '.join(f'{each}=' for each in KEYS)}")
        if not value or key in values:
            raise UserError(f"predict {word}: {'given a second time' if key in values else 'a value is needed'}")
        values[key] = value
    values = _with_shipped(values)
    if "ask" in values or "rule" in values:
        _check_question(values)
        return values
    if ("run" in values) == ("model" in values):
        raise UserError("predict: name one of run=DIR (with support=FILE) and model=DIR")
    if "run" in values and "support" not in values:
        raise UserError(
            "predict run=...: support=FILE is needed, your labelled examples (of a run in environments, metaloop play run=... "
            "task=0 shows what it does)"
        )
    for key in ("support", "steps", "unfinished", "save"):
        if "model" in values and key in values:
            raise UserError(f"predict model=...: {key}= needs run=; a saved model is adapted already")
    if not {"query", "rank", "save"} & set(values):
        raise UserError(
            "predict: query=FILE is needed, the examples to predict; rank=N for the N best items of a run on ratings; or "
            "save=DIR to save the adapted model"
        )
    if {"query", "rank"} <= set(values):
        raise UserError("predict: query=FILE predicts these examples, rank=N all that the support set does not have; give one")
    _check_targets(values)
    return values


def _check_question(values: Mapping[str, str]) -> None:
    """Raise a UserError unless the keys are those of a question which items to rate first."""
    extra = [key for key in values if key not in ("run", "ask", "rule", "unfinished", "out")]
    if "ask" not in values or "run" not in values or extra:
        raise UserError(
            f"predict ask=N: write run=DIR ask=N, and if you like rule=, unfinished= and out=FILE.csv"
            f"{'; not ' + ', '.join(f'{key}=' for key in extra) if extra else ''}"
        )
    _check_targets(values)


def _with_shipped(values: dict[str, str]) -> dict[str, str]:
    """The values with ``run=`` in the place of a ``model=`` that comes with the package.

    Raises:
        UserError: the support set is missing, or there is no such model.
    """
    from metaloop.evaluation.pretrained.shipped import shipped_run, shipped_runs

    model = values.get("model")
    directory = None if model is None or "run" in values else shipped_run(model)
    if directory is None:
        if model is not None and "support" in values and not Path(model).exists():
            raise UserError(
                f"predict model={model}: neither a folder nor a model that comes with metaloop; "
                f"{did_you_mean(model, shipped_runs())}those are {', '.join(shipped_runs())}"
            )
        return values
    if "support" not in values:
        raise UserError(f"predict model={model}: support=FILE is needed, your labelled examples")
    return {key: value for key, value in values.items() if key != "model"} | {"run": str(directory)}


def _check_targets(values: Mapping[str, str]) -> None:
    """Raise a UserError if predictions would replace another file, or the model could not be saved."""
    out, save = values.get("out"), values.get("save")
    if out is not None and not {"query", "rank", "ask"} & set(values):
        raise UserError(f"predict out={out}: there are no predictions without query=FILE or rank=N")
    if out is not None and (Path(out).suffix.lower() != ".csv" or Path(out).is_dir()):
        raise UserError(f"predict out={out}: must be a file that ends in .csv")
    for path in () if out is None else (Path(out), _record_path(Path(out))):
        for key in ("support", "query", "save"):
            if key in values and path.resolve() == Path(values[key]).resolve():
                raise UserError(f"predict out={out} writes {path}, which is {key}={values[key]}; choose another name")
        if path.exists() and not _is_from_predict(path):
            raise UserError(f"predict out={out} would replace {path}, which holds no predictions; choose another name")
    if save is not None and Path(save).exists():
        raise UserError(f"predict save={save} exists already and is not overwritten: choose another name, or remove it")


def _check_inputs(values: Mapping[str, str], unfinished: bool) -> None:
    """Raise a UserError if the run, the model or a file is not there, before torch is imported."""
    from metaloop.evaluation.finished_run import FinishedRun

    if "run" in values:
        FinishedRun.open(values["run"], unfinished=unfinished)
    elif not (Path(values["model"]) / _MODEL).is_file():
        from metaloop.evaluation.pretrained.shipped import shipped_runs

        folder = values["model"]
        raise UserError(
            f"model={folder} holds no adapted model ({_MODEL}); metaloop predict run=... save={folder} makes one. Models that "
            f"come with metaloop: {', '.join(shipped_runs())}"
        )
    for key in ("support", "query"):
        if key in values and not Path(values[key]).expanduser().exists():
            raise UserError(f"predict {key}={values[key]}: there is no such file or folder")


def _record_path(target: Path) -> Path:
    """Path of the record of the predictions ``target``."""
    return target.with_suffix(".json")


def _is_from_predict(path: Path) -> bool:
    """Whether ``metaloop predict`` wrote a file: predictions (.csv) or their record."""
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix.lower() == ".csv":
                return file.readline().startswith(_FIRST_COLUMNS)
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return False
    command = content.get("command") if isinstance(content, dict) else None
    return isinstance(command, list) and command[:2] == _COMMAND


def _number(values: Mapping[str, str], key: str) -> int | None:
    text = values.get(key)
    if text is not None and (not text.isdecimal() or int(text) < 1):
        raise UserError(f"predict {key}={text}: must be a whole number of at least 1")
    return None if text is None else int(text)


def _alarm_rate(values: Mapping[str, str]) -> float | None:
    text = values.get("alarm_rate")
    if text is not None and "query" not in values:
        raise UserError(f"predict alarm_rate={text}: there are no alarms without query=FILE")
    try:
        rate = None if text is None else float(text)
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate < 1:
        raise UserError(f"predict alarm_rate={text}: must be a share above 0 and below 1, such as 0.01")
    return rate


def main(argv: list[str]) -> int:
    """Adapt a run or load a model, predict, write the predictions, and print a short table."""
    values = words(argv)
    steps, rank, ask = (_number(values, key) for key in ("steps", "rank", "ask"))
    unfinished = is_true("unfinished", [values[key] for key in ("unfinished",) if key in values])
    alarm_rate = _alarm_rate(values)
    _check_inputs(values, unfinished)
    if ask is not None:
        return _ask(values, ask, unfinished=unfinished)
    from metaloop.data.user.tasks import Columns

    names: dict[str, Any] = {key: values[key] for key in _COLUMNS if key in values}
    names |= {key: tuple(name.strip() for name in values[key].split(",")) for key in _LISTS if key in values}
    from metaloop.evaluation.adapted_model import adapt_to, load_model

    if "run" in values:
        base = Path(values["run"])
        model = adapt_to(base, values["support"], Columns(**names), steps, unfinished=unfinished)
        _check_rows(values, base, model.task.y.shape[1])
    else:
        model, base = load_model(values["model"]), Path(values["model"])
    result, files = None, []
    if "query" in values:
        model = replace(model, columns=replace(model.columns, **names))  # the query file may have other column names
        result = model.predict(values["query"], alarm_rate=alarm_rate)
    elif rank is not None:
        result = model.rank()
    if result is not None:
        files = [f"predictions  {_write(model, result, values, base, argv)}"]
    if "save" in values:
        model.save(values["save"])
        files.append(f"model  {values['save']}  (metaloop predict model={values['save']} query=...)")
    show(model, result, files, rank or _SHOWN)
    return 0


def _ask(values: Mapping[str, str], count: int, *, unfinished: bool) -> int:
    """Write and print the items that a new user is asked about first."""
    from metaloop.evaluation.questions import RULES, evidence
    from metaloop.records.writing import write_csv
    from metaloop.report.summary import print_lines

    rule = values.get("rule", next(iter(RULES)))
    found = evidence(values["run"], count, rule, unfinished=unfinished)
    target = Path(values.get("out", Path(values["run"]) / _FOLDER / f"ask_{rule}.csv"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_csv(target, found.table())
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror or error}); name another file with out=") from error
    places = enumerate(zip(found.titles, found.ratings, strict=True), 1)
    lines = [f"{place}  {title} ({ratings} ratings)" for place, (title, ratings) in places]
    print_lines([*lines, f"ask first by {rule}  {target}  (fill in the column rating; rows without one are left out)"])
    return 0


def _check_rows(values: Mapping[str, str], base: Path, rows: int) -> None:
    """Raise a UserError if a shipped run, whose time grows with the square of the rows, gets too many of them."""
    from metaloop.evaluation.pretrained.shipped import shipped_run

    if shipped_run(base.name) == base:
        from metaloop.evaluation.pretrained.table import MOST_ROWS

        if rows > MOST_ROWS:
            raise UserError(
                f"predict support={values['support']}: it has {rows:,} rows, and at most {MOST_ROWS:,} are read; give a random "
                f"part of them"
            )


def _write(model: "AdaptedModel", result: "Predictions", values: Mapping[str, str], base: Path, argv: Sequence[str]) -> Path:
    """Write the predictions and their record, never into the package; return the path of the predictions."""
    from metaloop.evaluation.pretrained.shipped import shipped_run
    from metaloop.records.writing import write_csv, write_json

    identity = f"{model.about} {result.rows.path.resolve()} {result.rows.digest} {model.columns}"
    folder = Path("outputs") / base.name if shipped_run(base.name) == base else base
    target = folder / _FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:12] / "predictions.csv"
    target = Path(values.get("out", target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_csv(target, result.table())
        write_json(_record_path(target), record(model, result, [*_COMMAND, *argv]))
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); name another file with out=FILE.csv"
        ) from error
    return target


def record(model: "AdaptedModel", result: "Predictions", command: Sequence[str]) -> dict[str, Any]:
    """Record of the predictions as plain data: what was used, and the score."""
    from metaloop.records.environment import versions

    scored = result.score and {"metric": result.metric.as_dict(), **asdict(result.score)}
    return {
        "command": list(command),
        **model.about,
        "adapted_with": model.about["versions"],
        "versions": versions(),
        "query": {
            "file": str(result.rows.path),
            "sha256": result.rows.digest,
            "rows": len(result.rows),
            "cut": result.rows.cut,
        },
        "score": scored,
        "threshold": result.threshold,
        "not_scored": len(result.strange),
        "in_support": result.repeated,
        "transductive": result.transductive,
    }


def show(model: "AdaptedModel", result: "Predictions | None", files: Sequence[str], shown: int = _SHOWN) -> None:
    """Print a summary of the support set, the first predictions, and the lines about written files."""
    from metaloop.problems.anomaly_scoring import AnomalyScoring
    from metaloop.report.summary import print_lines

    task = model.task
    if task.classes:
        fewest, most = min(task.shots), max(task.shots)
        size = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        lines = [f"adapted to  {len(task.classes)} classes, {size} examples of each"]
    else:
        lines = [f"adapted to  {task.shots[0]} examples"]
        if isinstance(model.dataset.problem, AnomalyScoring):
            lines[0] += f", of which {int(task.y.sum())} labelled anomalies"
    if result is not None:
        _print_table(result, shown)
        lines += _notes(result)
    print_lines([*lines, *files])


def _notes(result: "Predictions") -> list[str]:
    notes = []
    if result.score is not None:
        metric, score = result.metric, result.score
        text = _scored(metric, score)
        notes.append(f"{metric.title}  {text}  ({100 * score.level:g} % interval, {score.n} labelled)")
    if result.anomaly is not None and result.threshold is not None:
        notes.append(f"alarms  {sum(result.alarms)} of {len(result.rows)} rows have a score above {result.threshold:.4g}")
    if result.strange:
        names = _cut(", ".join(map(repr, dict.fromkeys(result.strange))))
        reason = "that the support set does not have" if result.classes else "that are not finite numbers"
        notes.append(f"not scored  {len(result.strange)} of the queries, with labels {reason}: {names}")
    if result.repeated:
        notes.append(f"in the support set  {result.repeated} of the queries are examples that the model was adapted to")
    if result.transductive:
        notes.append("transductive  a prediction depends on the other queries (because of model.norm=batch or the algorithm)")
    return notes


def _scored(metric: "Metric", score: "Interval | Proportion") -> str:
    from metaloop.metrics.interval import Interval

    if isinstance(score, Interval):
        return metric.with_unit(metric.interval(score.mean, score.half_width))
    return metric.with_unit(f"{metric.number(score.mean)}, between {metric.number(score.low)} and {metric.number(score.high)}")


def _print_table(result: "Predictions", shown: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    outputs = ("label", "probability") if result.classes else ("mean", "standard deviation")
    for name in ("row", "input", *(outputs if result.anomaly is None else ("score", "alarm"))):
        table.add_column(name, justify="left" if name in ("input", "label") else "right", no_wrap=True)
    for number in range(min(shown, len(result.rows))):
        caption = printable(" ".join(result.rows.captions[number].split()))
        table.add_row(str(number + 1), _cut(caption), *map(printable, _prediction(result, number)))
    console = Console(markup=False, highlight=False)
    console.print(table)
    if len(result.rows) > shown:
        console.print(f"and {len(result.rows) - shown:,} more")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _prediction(result: "Predictions", number: int) -> tuple[str, str]:
    if result.probabilities is not None:
        return result.labels[number], f"{result.probabilities[number].max().item():.3f}"
    if result.anomaly is not None:
        return f"{result.anomaly[number].item():.4g}", "alarm" if result.threshold is not None and result.alarms[number] else ""
    assert result.mean is not None
    deviation = "" if result.deviation is None else f"{result.deviation[number].item():.4g}"
    return f"{result.mean[number].item():.5g}", deviation


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
