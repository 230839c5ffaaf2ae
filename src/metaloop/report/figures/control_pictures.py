"""Pictures of what a learner did in its environments, by the name of their files."""

import base64
from pathlib import Path

from metaloop.records.trajectories import Trajectories, read_trajectories
from metaloop.report.figures.boards import BoardPictures
from metaloop.report.figures.pictures import Picture, picture
from metaloop.report.figures.theme import DARK, LIGHT
from metaloop.report.figures.trajectory_plots import beliefs_figure, trajectory_figure


def control_pictures(directory: Path) -> dict[str, Picture]:
    """Draw the trajectories of a run: ``trajectories`` and ``beliefs``, as far as the run has them.

    Raises:
        UserError: the file of trajectories is broken.
    """
    trajectories = read_trajectories(directory)
    return {} if trajectories is None else _drawn(trajectories)


def _drawn(trajectories: Trajectories) -> dict[str, Picture]:
    names = ", ".join(episode.name for episode in trajectories.tasks[0].episodes)
    alt = f"{trajectories.title}: {names}, in {len(trajectories.tasks)} test tasks"
    drawn = any(episode.drawings for task in trajectories.tasks for episode in task.episodes)
    pictures = {
        "trajectories": _boards(trajectories, alt)
        if drawn
        else picture(lambda theme: trajectory_figure(trajectories, theme), alt),
        "beliefs": picture(
            lambda theme: beliefs_figure(trajectories, theme), "the policy's posterior of some tasks, step by step"
        ),
    }
    return {name: each for name, each in pictures.items() if each is not None}


def _boards(trajectories: Trajectories, alt: str) -> Picture:
    both = [BoardPictures(trajectories, theme) for theme in (LIGHT, DARK)]
    light, dark = (base64.b64encode(each.still()).decode() for each in both)
    moving_light, moving_dark = (base64.b64encode(each.moving()).decode() for each in both)
    return Picture(light, dark, alt, both[0].page_width, moving_light, moving_dark)
