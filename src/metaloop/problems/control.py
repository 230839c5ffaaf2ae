"""Control: act in an unknown environment for a number of episodes and collect reward."""

from collections.abc import Mapping

from torch import Tensor

from metaloop.errors import UserError
from metaloop.problems.metric import MEAN_RETURN, TOTAL_REWARD, Metric
from metaloop.problems.problem import Problem, Scores
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import EpisodeSpec, Examples

REGRET = Metric("regret", "regret", digits=2, higher_is_better=False)
LAST_RETURN = Metric("last_return", "return of the last episode", digits=2)
SUCCESS = Metric.percentage("success_rate", "success rate")
LAST_SUCCESS = Metric.percentage("last_success", "success in the last episode")


class Actions:
    """The actions of an environment. No dataclass, because Hydra would turn one into a dict where it is an argument.

    Args:
        count: number of discrete actions, or of the entries of a continuous one.
        continuous: whether an action is a vector of ``count`` real numbers; otherwise it is a number in [0, count).
    """

    def __init__(self, count: int, continuous: bool = False) -> None:
        self.count = count
        self.continuous = continuous

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Actions) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.count, self.continuous))

    def __str__(self) -> str:
        return f"actions of {self.count} numbers" if self.continuous else f"{self.count} actions"


class Regret(TaskLoss):
    """Best expected return of an episode, told the task, minus its return; without a known best, minus its return."""

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`; (episodes,) from returns (episodes,)."""
        return examples.y - outputs


class Control(Problem):
    """Problem whose queries are the episodes of a trial and whose outputs are their returns.

    The score of a trial is the reward that all its episodes collect together, so exploration has its price, or with ``mean``
    that of one of them. ``query.y`` (tasks, episodes) is the expected return of the best policy for the task.

    Args:
        actions: actions of the environments.
        title: name of the environments in words, such as "5 Bernoulli arms".
        best_known: whether ``query.y`` is known; otherwise it is 0 and there is no regret.
        mean: whether score and regret are means over the episodes.
        solves: whether environments say if a task is solved; outputs are then (tasks, episodes, 2), and the share of episodes
            in which it was solved is scored beside the return.
    """

    name = "control"
    metric = TOTAL_REWARD
    loss = Regret()

    def __init__(self, actions: Actions, title: str, best_known: bool, mean: bool = False, solves: bool = False) -> None:
        self.actions = actions
        self.mean = mean
        self.metric = MEAN_RETURN if mean else TOTAL_REWARD
        self.title = title
        self.best_known = best_known
        self.statistics = (*((REGRET,) if best_known else ()), LAST_RETURN, *((SUCCESS, LAST_SUCCESS) if solves else ()))

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; outputs are returns (tasks, episodes), or with solutions (tasks, episodes, 2)."""
        solved = outputs[..., 1] if outputs.dim() == 3 else None
        outputs = returns_of(outputs)
        regret = (query.y - outputs).sum(1)
        count = outputs.shape[1] if self.mean else 1
        score = outputs.sum(1) / count
        scores = {"score": score, "loss": regret / outputs.shape[1], LAST_RETURN.name: outputs[:, -1]}
        if self.best_known:
            scores[REGRET.name] = regret / count
        return scores if solved is None else scores | {SUCCESS.name: solved.mean(1), LAST_SUCCESS.name: solved[:, -1]}

    def details(self, outputs: Tensor, query: Examples, outside: Tensor | None = None) -> Scores:
        """See :meth:`Problem.details`; the return of each episode."""
        return {"returns": returns_of(outputs)}

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """The score."""
        return self.metric, scores["score"]

    def size(self, spec: EpisodeSpec) -> str:
        """Environment and number of episodes in words."""
        return f"{self.title}, {spec.queries} episodes"


def returns_of(outputs: Tensor) -> Tensor:
    """The returns (tasks, episodes) of outputs, which may have solutions beside them."""
    return outputs[..., 0] if outputs.dim() == 3 else outputs


def actions_of(problem: Problem) -> Actions:
    """Return the actions that tasks allow.

    Raises:
        UserError: the tasks are no environments.
    """
    if isinstance(problem, Control):
        return problem.actions
    raise UserError(
        f"algorithm: this learner acts in environments, but the data set's tasks are of {problem.name}; take "
        f"dataset=bernoulli_bandits, or another of docs/control.md"
    )


def check_acts(problem: Problem, acts: bool) -> None:
    """Raise a UserError if tasks are environments and the learner does not act in any."""
    if isinstance(problem, Control) and not acts:
        raise UserError(
            "algorithm: the tasks of this data set are environments, in which this learner cannot act; take algorithm=agent, "
            "algorithm=rl2 or algorithm=maml_control"
        )
