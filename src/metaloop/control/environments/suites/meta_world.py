"""Robots that learn to handle objects: the benchmarks of Meta-World for meta-learning (Yu et al. 2020, section 4)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from metaloop.control.environments.environment import at_least
from metaloop.control.environments.stateful import StatefulEnvironment, limited
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import Params

BENCHMARKS = ("ML1", "ML10", "ML45")
_LONGEST = 500  # steps after which Meta-World's environments go no further


class MetaWorld(StatefulEnvironment):
    """A robot's arm with a gripper, in tasks that are skills with goals which it does not see.

    The tasks are those of Meta-World's benchmark: 50 goals of each skill, from the benchmark's own random numbers. In training,
    tasks are drawn from its training set. The meta-test takes those of its test set, task i being the goal i // n of the skill
    i % n, so that ``evaluation.episodes`` of 50 for each skill take every task once. There is no validation set;
    meta-validation draws among the training tasks. Rewards are Meta-World's, and a task is solved in an episode if ``success``
    is 1 at some step.

    Args:
        benchmark: "ML1" (other goals of one skill), "ML10" (5 further skills) or "ML45" (5 further skills).
        skill: of ML1, such as "reach-v3"; None for the others.
        horizon: most steps of an episode, up to the 500 of the benchmark.
        seed: of the goals.

    Raises:
        UserError: the package is not installed, or a setting is not allowed.
    """

    success: ClassVar[str | None] = "success"

    def __init__(self, benchmark: str, skill: str | None, horizon: int, seed: int) -> None:
        at_least({"horizon": (horizon, 1), "seed": (seed, 0)})
        if horizon > _LONGEST:
            raise UserError(f"dataset.environment.horizon={horizon}: at most {_LONGEST}, the steps of Meta-World's episodes")
        made = _benchmark(benchmark, skill, seed)
        self.limit = horizon
        self.classes = {**made.train_classes, **made.test_classes}
        self.members = [*_by_goal(made.train_tasks), *_by_goal(made.test_tasks)]
        self.trained = len(made.train_tasks)
        super().__init__(f"Meta-World {benchmark}{f' {skill}' if skill else ''}", {"task": 0})

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``task`` (tasks,), a number in the benchmark's training and then test tasks."""
        if stream.split == "test":
            return {"task": self.trained + numbers % (len(self.members) - self.trained)}
        return {"task": stream.integers(numbers, 1, "tasks", self.trained)[:, 0]}

    def make(self, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.make`."""
        task = self.members[int(values["task"])]
        environment = self.classes[task.env_name]()
        environment.set_task(task)
        return limited(environment, task.env_name, self.limit)

    def changed(self, environment: Any, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.changed`; another goal of the same skill needs no new environment."""
        task = self.members[int(values["task"])]
        if environment.spec.id != task.env_name:
            return super().changed(environment, values)
        environment.unwrapped.set_task(task)
        return environment

    def solved(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.solved`; what ``success`` said after the last step."""
        return state["solved"]


def _by_goal(tasks: list[Any]) -> list[Any]:
    """The tasks in the order of the first goals of all skills, then the second, and so on."""
    names = list(dict.fromkeys(task.env_name for task in tasks))
    parts = [[task for task in tasks if task.env_name == name] for name in names]
    return [task for goal in zip(*parts, strict=True) for task in goal]


def _benchmark(name: str, skill: str | None, seed: int) -> Any:
    if name not in BENCHMARKS:
        raise UserError(f"dataset.environment.benchmark={name!r}: one of {', '.join(BENCHMARKS)}")
    if (skill is not None) != (name == "ML1"):
        raise UserError(f"dataset.environment.skill={skill}: ML1 needs one, such as reach-v3, and {name} has its own: null")
    try:
        import metaworld
    except ImportError as error:
        raise UserError(
            f"dataset.environment: metaworld cannot be imported ({error}): pip install 'metaloop[metaworld]'"
        ) from error
    if name != "ML1":
        return getattr(metaworld, name)(seed=seed)
    if skill not in metaworld.ML1.ENV_NAMES:
        raise UserError(f"dataset.environment.skill={skill}: one of {', '.join(metaworld.ML1.ENV_NAMES)}")
    return metaworld.ML1(skill, seed=seed)
