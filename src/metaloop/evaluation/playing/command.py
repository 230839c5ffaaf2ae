"""``metaloop play``: what the policy of a finished run does in one task."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metaloop.config.words.override_values import is_true
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

if TYPE_CHECKING:  # it imports torch, for which the error for a mistyped word should not wait
    from metaloop.control.showing import ShownEpisode
    from metaloop.evaluation.playing.trial import PlayedTrial

KEYS = ("run", "task", "gif", "beliefs", "unfinished")
_LINES = 20  # most episodes with a line of their own
_BELIEFS = (".png", ".csv")  # of a file of beliefs
_DRAWN = 12  # most episodes that are drawn: the first and the last of them


def words(argv: Sequence[str]) -> dict[str, str]:
    """Parse the words of the command into values by key.

    Raises:
        UserError: a word has no value, a key is unknown, given twice or missing, or a value is none.
    """
    values: dict[str, str] = {}
    for word in argv:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise UserError(f"play {word}: {did_you_mean(key, KEYS)}keys: {', '.join(f'{each}=' for each in KEYS)}")
        if not value or key in values:
            raise UserError(f"play {word}: {'given a second time' if key in values else 'a value is needed'}")
        values[key] = value
    if "run" not in values:
        raise UserError("play: run=DIR is needed, a finished run of a data set of environments (docs/control.md)")
    if not values.setdefault("task", "0").isdecimal():
        raise UserError(f"play task={values['task']}: the number of a task of the meta-test, 0 or above")
    gif = values.get("gif")
    if gif is not None and (Path(gif).suffix.lower() != ".gif" or Path(gif).is_dir()):
        raise UserError(f"play gif={gif}: must be a file that ends in .gif")
    beliefs = values.get("beliefs")
    if beliefs is not None and (Path(beliefs).suffix.lower() not in _BELIEFS or Path(beliefs).is_dir()):
        raise UserError(f"play beliefs={beliefs}: must be a file that ends in .png, for a figure, or in .csv")
    return values


def main(argv: list[str]) -> int:
    """Play the task, print what happened, and write the moving picture."""
    values = words(argv)
    unfinished = is_true("unfinished", [values[key] for key in ("unfinished",) if key in values])
    from metaloop.evaluation.finished_run import FinishedRun

    run = FinishedRun.open(values["run"], unfinished=unfinished)
    from metaloop.evaluation.playing.trial import play_task
    from metaloop.report.summary import print_lines

    trial = play_task(run, int(values["task"]))
    drawn = all(episode.drawings for episode in trial.episodes)
    if "gif" in values and not drawn:
        raise UserError(f"play gif=: {trial.problem.title} are not drawn; grids, mazes, catch and point navigation are")
    believes = all(episode.beliefs for episode in trial.episodes)
    if "beliefs" in values and not believes:
        raise UserError(
            "play beliefs=: this run's policy has no posterior; those of varibad, pearl and the agents of bandits have"
        )
    lines = [*_about(trial), *_episodes(trial), *(_beliefs(trial) if believes else [])]
    if "gif" in values:
        lines.append(f"moving picture  {_written('gif', values['gif'], _picture(trial))}")
    if "beliefs" in values:
        lines.append(f"beliefs  {_written('beliefs', values['beliefs'], _believed(trial, Path(values['beliefs']).suffix))}")
    print_lines(lines)
    if drawn:
        print("", *_drawings(trial), sep="\n")
    return 0


def _about(trial: "PlayedTrial") -> list[str]:
    """Lines about the task and its score."""
    problem, scores = trial.problem, trial.scores
    before = len(trial.episodes) - len(trial.returns)
    more = f" after {before} to adapt" if before else ""
    lines = [f"task  {trial.task} of the meta-test: {problem.title}, {len(trial.returns)} episodes{more}"]
    lines += [f"{name}  {', '.join(f'{value:.4g}' for value in values)}" for name, values in trial.parameters.items()]
    lines.append(f"{problem.metric.title}  {problem.metric.number(scores['score'])}")
    return lines + [f"{each.title}  {each.number(scores[each.name])}" for each in problem.statistics]


def _episodes(trial: "PlayedTrial") -> list[str]:
    """Lines with the return of each episode, or of ten at a time."""
    episodes = trial.episodes
    pulls = trial.horizon == 1
    if len(episodes) <= _LINES:
        return [
            f"episode {number}  return {_sum(trial, episode)}, {_steps(episode, pulls)}"
            for number, episode in enumerate(episodes, 1)
        ]
    lines = []
    for first in range(0, len(episodes), 10):
        some = episodes[first : first + 10]
        head = f"episodes {first + 1} to {first + len(some)}"
        lines.append(f"{head}  returns {' '.join(_sum(trial, episode) for episode in some)}")
        if pulls:
            lines.append(f"  actions {' '.join(_action(episode.actions[0]) for episode in some)}")
    return lines


def _sum(trial: "PlayedTrial", episode: "ShownEpisode") -> str:
    return trial.problem.metric.number(sum(episode.rewards))


def _steps(episode: "ShownEpisode", pulls: bool) -> str:
    """How long an episode was; its action if each is a single one."""
    steps = len(episode.actions)
    return f"action {_action(episode.actions[0])}" if pulls else f"{steps} step{'s' if steps != 1 else ''}"


def _action(action: object) -> str:
    return " ".join(f"{each:.2g}" for each in action) if isinstance(action, list) else str(action)


def _drawings(trial: "PlayedTrial") -> list[str]:
    """The paths of the episodes beside each other; of many, of the first and the last ones."""
    from metaloop.report.figures.boards import with_trail
    from metaloop.report.figures.trial_pictures import side_by_side

    numbered = list(enumerate(trial.episodes, 1))
    if len(numbered) > _DRAWN:
        numbered = numbered[: _DRAWN // 2] + numbered[-_DRAWN // 2 :]
    titles = [f"episode {number}: {_sum(trial, episode)}" for number, episode in numbered]
    paths = [with_trail(episode.drawings) for _, episode in numbered]
    return side_by_side(paths, titles, shutil.get_terminal_size().columns)


def _beliefs(trial: "PlayedTrial") -> list[str]:
    """A line with the mean deviation of the posterior at first and after each episode; of many, some."""
    ends = [trial.episodes[0].beliefs[0], *(episode.beliefs[-1] for episode in trial.episodes)]
    shown = ends if len(ends) <= _DRAWN else [*ends[: _DRAWN // 2], *ends[-_DRAWN // 2 :]]
    means = [f"{sum(deviation) / len(deviation):.3g}" for _, deviation in shown]
    if len(shown) < len(ends):
        means.insert(_DRAWN // 2, "...")
    return [f"posterior's deviation  {' '.join(means)} (at first and after each episode)"]


def _believed(trial: "PlayedTrial", suffix: str) -> bytes:
    from metaloop.report.figures.belief_plot import belief_figure, belief_table
    from metaloop.report.figures.theme import LIGHT, png

    episodes = [episode.beliefs for episode in trial.episodes]
    return belief_table(episodes).encode() if suffix.lower() == ".csv" else png(belief_figure(episodes, LIGHT))


def _picture(trial: "PlayedTrial") -> bytes:
    from metaloop.report.figures.trial_pictures import moving_picture

    titles = []
    for number, episode in enumerate(trial.episodes, 1):
        sums = [sum(episode.rewards[:step]) for step in range(len(episode.drawings))]
        titles.append([f"episode {number}, step {step}: {value:.2f}" for step, value in enumerate(sums)])
    return moving_picture([episode.drawings for episode in trial.episodes], titles)


def _written(key: str, name: str, content: bytes) -> Path:
    from metaloop.system.files import write_atomically

    target = Path(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        raise UserError(f"play {key}={target} cannot be written ({error.strerror or error}); name another file") from error
    return target
