"""``metaloop predict``: a finished run adapted to a user's own task."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.config.override_values import is_true
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

if TYPE_CHECKING:  # they import torch, which a mistyped word need not wait for
    from metaloop.evaluation.adapted_model import AdaptedModel
    from metaloop.evaluation.predictions import Predictions

KEYS = ("run", "model", "support", "query", "text", "path", "label", "steps", "unfinished", "out", "save")
_FOLDER = "predictions"
_COMMAND = ["metaloop", "predict"]  # how the command in a record of predictions begins
_FIRST_COLUMNS = "row,input,"
_SHOWN, _WIDTH = 10, 56  # rows of the table on the screen, and letters of an input


def words(argv: Sequence[str]) -> dict[str, str]:
    """The values by key.

    Raises:
        UserError: a word is none, a key is unknown or given twice, or keys do not go together.
    """
    found: dict[str, str] = {}
    for word in argv:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise UserError(f"predict {word}: {did_you_mean(key, KEYS)}keys: {', '.join(f'{each}=' for each in KEYS)}")
        if not value or key in found:
            raise UserError(f"predict {word}: {'given a second time' if key in found else 'a value is needed'}")
        found[key] = value
    if ("run" in found) == ("model" in found):
        raise UserError("predict: name one of run=DIR (with support=FILE) and model=DIR")
    if "run" in found and "support" not in found:
        raise UserError("predict run=...: support=FILE is needed, your labelled examples")
    for key in ("support", "steps", "unfinished", "save"):
        if "model" in found and key in found:
            raise UserError(f"predict model=...: {key}= goes with run=; a kept model is adapted already")
    if not {"query", "save"} & set(found):
        raise UserError("predict: query=FILE is needed, the examples to predict; or save=DIR to keep the adapted model")
    _check_out(found)
    return found


def _check_out(found: Mapping[str, str]) -> None:
    """Raise a UserError where predictions would go astray, or the model could not be kept."""
    out, save = found.get("out"), found.get("save")
    if out is not None and "query" not in found:
        raise UserError(f"predict out={out}: there are no predictions without query=FILE")
    if out is not None and (Path(out).suffix.lower() != ".csv" or Path(out).is_dir()):
        raise UserError(f"predict out={out}: a file that ends in .csv")
    for path in () if out is None else (Path(out), _beside(Path(out))):
        for key in ("support", "query", "save"):
            if key in found and path.resolve() == Path(found[key]).resolve():
                raise UserError(f"predict out={out} writes {path}, which is {key}={found[key]}; take another name")
        if path.exists() and not _is_ours(path):
            raise UserError(f"predict out={out} would replace {path}, which holds no predictions; take another name")
    if save is not None and Path(save).exists():
        raise UserError(f"predict save={save} exists already; nothing is overwritten: choose another name, or remove it")


def _beside(target: Path) -> Path:
    """Where the record of the predictions ``target`` lies."""
    return target.with_suffix(".json")


def _is_ours(path: Path) -> bool:
    """Whether a file was written by ``metaloop predict``: predictions (.csv), or their record."""
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix.lower() == ".csv":
                return file.readline().startswith(_FIRST_COLUMNS)
            told = json.load(file)
    except (OSError, ValueError):
        return False
    command = told.get("command") if isinstance(told, dict) else None
    return isinstance(command, list) and command[:2] == _COMMAND


def _steps(found: Mapping[str, str]) -> int | None:
    given = found.get("steps")
    if given is not None and (not given.isdecimal() or int(given) < 1):
        raise UserError(f"predict steps={given}: a whole number of at least 1")
    return None if given is None else int(given)


def main(argv: list[str]) -> int:
    """Adapt or load, predict, write, and print a short table."""
    found = words(argv)
    steps, unfinished = _steps(found), is_true("unfinished", [found[key] for key in ("unfinished",) if key in found])
    from metaloop.data.user.tasks import Columns

    named = {key: found[key] for key in ("text", "path", "label") if key in found}
    from metaloop.evaluation.adapted_model import adapt_to, load_model

    if "run" in found:
        base = Path(found["run"])
        model = adapt_to(base, found["support"], Columns(**named), steps, unfinished=unfinished)
    else:
        model, base = load_model(found["model"]), Path(found["model"])
    result, said = None, []
    if "query" in found:
        model = replace(model, columns=replace(model.columns, **named))  # the query's, where it calls some otherwise
        result = model.predict(found["query"])
        said = [f"predictions  {_written(model, result, found, base, argv)}"]
    if "save" in found:
        model.save(found["save"])
        said.append(f"model  {found['save']}  (metaloop predict model={found['save']} query=...)")
    show(model, result, said)
    return 0


def _written(model: "AdaptedModel", result: "Predictions", found: Mapping[str, str], base: Path, argv: Sequence[str]) -> Path:
    """Write predictions and record; where the predictions are."""
    from metaloop.records.writing import write_csv, write_json

    identity = f"{model.about} {result.rows.path.resolve()} {result.rows.digest} {model.columns}"
    target = base / _FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:12] / "predictions.csv"
    target = Path(found.get("out", target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_csv(target, result.table())
        write_json(_beside(target), record(model, result, [*_COMMAND, *argv]))
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror or error}); say where with out=FILE.csv") from error
    return target


def record(model: "AdaptedModel", result: "Predictions", command: Sequence[str]) -> dict[str, Any]:
    """What was used and what came out, as plain data."""
    from metaloop.records.environment import versions

    score, metric = result.score, result.metric.as_dict()
    scored = score and {
        "metric": metric, "mean": score.mean, "half_width": score.half_width, "level": score.level, "n": score.n
    }  # fmt: skip
    return {
        "command": list(command),
        **model.about,
        "adapted_with": model.about["versions"],
        "versions": versions(),
        "query": {"file": str(result.rows.path), "sha256": result.rows.digest, "rows": len(result.rows)},
        "score": scored,
        "not_scored": len(result.strange),
        "in_support": result.repeated,
        "transductive": result.transductive,
    }


def show(model: "AdaptedModel", result: "Predictions | None", said: Sequence[str]) -> None:
    """Print what was adapted to, the first predictions, and where all are."""
    from metaloop.report.summary import print_lines

    task = model.task
    if task.classes:
        fewest, most = min(task.shots), max(task.shots)
        size = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        lines = [f"adapted to  {len(task.classes)} classes, {size} examples of each"]
    else:
        lines = [f"adapted to  {task.shots[0]} examples"]
    if result is not None:
        _print_table(result)
        lines += _notes(result)
    print_lines([*lines, *said])


def _notes(result: "Predictions") -> list[str]:
    found = []
    if result.score is not None:
        metric, score = result.metric, result.score
        text = metric.with_unit(metric.interval(score.mean, score.half_width))
        found.append(f"{metric.title}  {text}  ({100 * score.level:g} % interval, {score.n} labelled)")
    if result.strange:
        names = _cut(", ".join(map(repr, dict.fromkeys(result.strange))))
        what = "that the support set does not have" if result.classes else "that are no finite numbers"
        found.append(f"not scored  {len(result.strange)} of the queries, with labels {what}: {names}")
    if result.repeated:
        found.append(f"in the support set  {result.repeated} of the queries are examples that the model was adapted to")
    if result.transductive:
        found.append("transductive  an answer depends on the other queries of its file (model.norm=batch, or the algorithm)")
    return found


def _print_table(result: "Predictions") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("row", "input", *(("label", "probability") if result.classes else ("mean", "standard deviation"))):
        table.add_column(name, justify="left" if name in ("input", "label") else "right", no_wrap=True)
    for place in range(min(_SHOWN, len(result.rows))):
        shown = " ".join(result.rows.captions[place].split())
        table.add_row(str(place + 1), _cut(shown), *_answer(result, place))
    console = Console(markup=False, highlight=False)
    console.print(table)
    if len(result.rows) > _SHOWN:
        console.print(f"and {len(result.rows) - _SHOWN:,} more")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _answer(result: "Predictions", place: int) -> tuple[str, str]:
    if result.probabilities is not None:
        return result.labels[place], f"{result.probabilities[place].max().item():.3f}"
    assert result.mean is not None
    deviation = "" if result.deviation is None else f"{result.deviation[place].item():.4g}"
    return f"{result.mean[place].item():.5g}", deviation


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
