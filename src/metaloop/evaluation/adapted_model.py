"""A finished run adapted to a user's own task; it predicts, can be saved, and can be loaded without the run."""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.config.build import build_dataset, build_learner_for, build_plan, keep_model_files
from metaloop.config.trained_on import TrainedOn, trained_on
from metaloop.config.trust import remember_derived
from metaloop.control.environments.environment import Environments
from metaloop.data.encoded import check_encoder
from metaloop.data.recorded import RecordedDataset
from metaloop.data.user.in_memory import as_file
from metaloop.data.user.tasks import Columns, UserFileDataset, UserRows, UserTask, user_task
from metaloop.errors import UserError
from metaloop.evaluation.alarms import alarm_threshold
from metaloop.evaluation.device import set_up_device
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.evaluation.kept_model import ABOUT, ENCODER, TENSORS, read_kept_model, with_model
from metaloop.evaluation.predictions import Predictions, predictions
from metaloop.evaluation.pretrained.shipped import shipped_run
from metaloop.learners.learner import Learner, Predictor, TakesSteps
from metaloop.problems.anomaly_scoring import AnomalyScoring
from metaloop.records.directory import BEST
from metaloop.records.environment import versions
from metaloop.system.tensors import save_tensors
from metaloop.types import map_inputs

_LOOP = {"_target_": "metaloop.inner.execution.over_tasks.Loop"}  # there is one task


@dataclass(frozen=True)
class AdaptedModel:
    """Learner adapted to a user's support set; made by :func:`adapt_to` and :func:`load_model`.

    Attributes:
        about: Plain data: the run, its checkpoint's step and config, the support file and its hash, versions.
        tasks: Meta-training tasks that the learner was built for.
        task: The support set.
        dataset: Data set that prepares files.
        learner: Learner with the run's parameters.
        predictor: The learner adapted to the support set.
        columns: Names of the columns in the support file.
    """

    about: Mapping[str, Any]
    tasks: TrainedOn
    task: UserTask
    dataset: UserFileDataset
    learner: Learner
    predictor: Predictor
    columns: Columns

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the task's classes; empty for regression."""
        return self.task.classes

    def predict(
        self,
        query: str | Path | Sequence[Any] | np.ndarray,
        columns: Columns | None = None,
        alarm_rate: float | None = None,
    ) -> Predictions:
        """Predict the examples of a file or folder, or examples in memory.

        Labels in a file are optional; they only score the predictions.

        Args:
            query: A CSV, TSV, JSON or JSON lines file; for texts also .txt; for pictures also a folder or zip archive. Or
                examples in memory: a list of texts, a list of pictures (uint8 arrays), or an array of a table's cells
                (rows, columns) in the support file's order.
            columns: Names of the columns in the file; None for those of the support file.
            alarm_rate: Wanted share of alarms among inliers, for anomaly scoring; None for scores without alarms.

        Raises:
            UserError: the file is missing or broken, its columns do not match the support set, or the alarm rate is refused.
        """
        columns = columns or self.columns
        if not isinstance(query, str | Path):
            with as_file(query, columns, tuple(column.name for column in self.task.encoding)) as path:
                return self.predict(path, columns, alarm_rate)
        threshold = None if alarm_rate is None else self._threshold(alarm_rate)
        columns = replace(columns, encoding=self.task.encoding or None)
        rows = self.dataset.read_user_file(Path(query), columns, self.tasks.input_shape, labelled=False)
        return predictions(self.dataset, self.task, self.learner, self.predictor, rows, threshold)

    def _threshold(self, alarm_rate: float) -> float:
        if not isinstance(self.dataset.problem, AnomalyScoring):
            raise UserError(f"alarm_rate={alarm_rate:g}: the run does not score anomalies; leave it out")
        return alarm_threshold(self.dataset, self.task, self.learner, alarm_rate)

    def rank(self) -> Predictions:
        """Predict all items of the run's data set that the support set does not have, the highest prediction first.

        Raises:
            UserError: the data set has no items.
        """
        rows = self.dataset.unseen(self.task)
        if rows is None:
            raise UserError(
                "rank=: the run was not trained on ratings, so it has no items to rank; name examples by query=FILE"
            )
        return predictions(self.dataset, self.task, self.learner, self.predictor, rows, ranked=True)

    def save(self, folder: str | Path) -> None:
        """Save everything that predictions need in a new folder: learner's and adapted parameters, and the support set.

        A pretrained encoder's configuration and tokenizer are saved too. The files of a frozen encoder are not copied.

        Raises:
            UserError: the folder exists or cannot be made, or the files of the encoder are gone.
        """
        folder = Path(folder)
        if folder.exists():
            raise UserError(f"save={folder} exists already and is not overwritten: choose another name, or remove it")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        content = {"learner": self.learner.state_dict(), "task": self.task.tensors(), "adapted": self.predictor.adapted}
        model = self.about["config"]["model"]
        try:
            temporary.mkdir(parents=True)
            if not model.get("frozen"):
                keep_model_files(model, temporary / ENCODER)
            save_tensors(_on_cpu(content), temporary / TENSORS)
            description = self._description()
            (temporary / ABOUT).write_text(json.dumps(description, indent=1) + "\n")
            temporary.rename(folder)
            remember_derived(description["config"], self.about["config"])
        except OSError as error:
            raise UserError(f"save={folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _description(self) -> dict[str, Any]:
        """Everything except tensors, as plain data."""
        config, tasks = self.about["config"], self.tasks
        name = config["model"].get("name_or_path")
        if name is not None and Path(name).is_dir():  # absolute, so that it is found from other working folders
            config = with_model(config, {"name_or_path": str(Path(name).resolve())})
        encoder = self.dataset.encoded_by
        sizes = {"outputs": tasks.outputs, "classes": tasks.classes, "input_shape": list(tasks.input_shape)}
        description = {**sizes, "fields": [asdict(field) for field in tasks.fields]}
        more = {"tasks": description, "columns": asdict(self.columns), "catalogue": self.dataset.catalogue()}
        return {**self.about, "config": config, "encoder": encoder, **more}


def adapt_to(
    run: str | Path,
    support: str | Path,
    columns: Columns | None = None,
    steps: int | None = None,
    *,
    unfinished: bool = False,
    trust: Collection[str] = (),
) -> AdaptedModel:
    """Adapt the best checkpoint of a finished run to a user's own support set.

    Args:
        run: Run directory, or the name of a run that comes with the package (``"pfn"``).
        support: Texts or tables as a CSV, TSV, JSON or JSON lines file with a column of labels; pictures as a folder or zip
            archive with one folder for each class, or as a file of paths and labels. The run's data set prepares them like
            its own examples.
        columns: Names of the columns in the file; None for text, path and label.
        steps: Inner steps; None for those of the run's meta-test.
        unfinished: Whether to accept a run whose training was stopped, with its best checkpoint so far.
        trust: Packages that the run's config may name besides metaloop, if the run comes from elsewhere.

    Raises:
        UserError: the run is not finished or not trusted, its data set cannot prepare files, or the learner cannot adapt to
            the file.
    """
    support, columns = Path(support), columns or Columns()
    opened = FinishedRun.open(shipped_run(run) or run, unfinished=unfinished, trust=trust)
    config = _config(opened.config, steps)
    remember_derived(config, opened.identity.config)
    device = set_up_device(config)
    dataset = _file_dataset(config)
    opened.check_encoder(dataset)
    recorded = RecordedDataset(dataset, opened.contents)
    train = recorded.split("train")
    tasks = trained_on(train, build_plan(config).fitted(recorded).train_spec)
    rows = dataset.read_user_file(support, columns, tasks.input_shape, labelled=True)
    if (columns.ignore or columns.categories) and not rows.encoding:
        raise UserError(
            "ignore= and categories= name columns of a table, and the run was not trained on tables: leave them out"
        )
    task = user_task(rows, tasks.problem)
    learner = opened.learner(config, tasks)
    _check_ways(learner, task, rows)
    about = {
        "run": str(opened.directory.resolve()),
        "checkpoint": BEST,
        "step": opened.training.best_step if opened.training else None,
        "support": {
            "file": str(support),
            "sha256": rows.digest,
            "classes": dict(zip(task.classes, task.shots, strict=False)),
            "cut": rows.cut,
        },
        "versions": versions(),
        "config": config,
    }
    return _adapted(about, tasks, task, dataset, learner.to(device).eval(), columns, None)


def load_model(folder: str | Path, trust: Collection[str] = ()) -> AdaptedModel:
    """Load a model that :meth:`AdaptedModel.save` saved; it makes the same predictions.

    Args:
        folder: Folder of the model.
        trust: Packages that the model's config may name besides metaloop, if the model comes from elsewhere.

    Raises:
        UserError: the folder holds no such model, files of its frozen encoder are missing or have changed, or it asks for what
            is not trusted.
    """
    folder = Path(folder)
    kept = read_kept_model(folder, trust)
    config = kept.about["config"]
    device = set_up_device(config)
    dataset = _file_dataset(config)
    examples = map_inputs(lambda tensor: tensor[0], kept.task.inputs)  # only shapes matter: word counts are in the parameters
    tasks = TrainedOn(**kept.tasks, problem=dataset.problem, input_shape=kept.input_shape, inputs=examples)
    check_encoder(dataset, kept.encoder, f"the saved model {folder}")
    if kept.catalogue != dataset.catalogue():
        raise UserError(f"model={folder}: the items of the data set have changed since it was saved; restore the data set")
    learner = build_learner_for(kept.build_config, tasks)
    try:
        learner.load_state_dict(kept.learner)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{folder / TENSORS} does not fit the model: {' '.join(str(error).split())[:300]}") from error
    return _adapted(kept.about, tasks, kept.task, dataset, learner.to(device).eval(), kept.columns, kept.adapted)


def _adapted(
    about: Mapping[str, Any],
    tasks: TrainedOn,
    task: UserTask,
    dataset: UserFileDataset,
    learner: Learner,
    columns: Columns,
    adapted: Mapping[str, Tensor] | None,
) -> AdaptedModel:
    """Adapt the learner to the support set, or restore the saved adapted parameters."""
    device = next((parameter.device for parameter in learner.parameters()), torch.device("cpu"))
    x, _, scale = dataset.user_inputs(task.inputs, task.targets, task.mask, task.inputs)
    support = replace(task.support(x, scale).map(lambda tensor: tensor.to(device)), number=task.number.to(device))
    if adapted is not None and isinstance(learner, TakesSteps):
        predictor = learner.adapted_before(support, {name: value.to(device) for name, value in adapted.items()})
    else:
        predictor = learner.adapt(support)
    return AdaptedModel(about, tasks, task, dataset, learner, predictor, columns)


def _config(trained: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
    """The run's config for a single task."""
    algorithm = {**trained["algorithm"], "over_tasks": _LOOP}
    if steps is not None:
        if "eval_steps" not in algorithm:
            raise UserError(f"steps={steps}: the run's learner takes no inner steps; leave out steps=")
        algorithm["eval_steps"] = steps
        if "eval_passes" in algorithm:  # the other way to say it
            algorithm["eval_passes"] = None
    return {**trained, "algorithm": algorithm}


def _file_dataset(config: Mapping[str, Any]) -> UserFileDataset:
    dataset = build_dataset(config)
    if isinstance(dataset, Environments):
        raise UserError(
            "predict: the run was trained on environments, in which it acts; metaloop play run=DIR task=0 shows what it does"
        )
    if not isinstance(dataset, UserFileDataset):
        raise UserError(
            f"the run was trained on {config['dataset']['_target_']}, which cannot prepare your own files; data sets of "
            f"texts, of images and of ratings and dataset=tabular can"
        )
    return dataset


def _check_ways(learner: Learner, task: UserTask, rows: UserRows) -> None:
    try:
        learner.check(max(1, len(task.classes)))
    except UserError as error:
        raise UserError(f"{rows.path} has {len(task.classes)} classes. {error}") from error


def _on_cpu(tree: Any) -> Any:
    """Move the tensors of nested dicts to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    return {name: _on_cpu(value) for name, value in tree.items()} if isinstance(tree, Mapping) else tree
