"""Pictures of what a learner did: boards, maps, rewards and beliefs."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from metaloop.records.trajectories import KeptBelief, KeptEpisode, KeptTask, Trajectories, write_trajectories
from metaloop.report.figures.boards import BoardPictures
from metaloop.report.figures.control_pictures import control_pictures
from metaloop.report.figures.theme import DARK, LIGHT
from metaloop.report.figures.trajectory_plots import beliefs_figure, trajectory_figure

WALK = (("@..", "..*"), (".@.", "..*"), ("..@", "..*"), ("...", "..@"))
BELIEF = KeptBelief((1, 2, 3), (1, 4), ((0.0, 0.0), (0.5, 0.1), (2.0, 0.1)), ((1.0, 1.0), (0.5, 0.9), (0.1, 0.8)), (2, 3))


def on_boards() -> Trajectories:
    late = KeptEpisode("episode 2", (0.0, 1.0), drawings=(WALK[1], WALK[2], WALK[3]))
    episodes = KeptEpisode("episode 1", (0.0, 0.0, 1.0), drawings=WALK), late
    return Trajectories("rooms", (KeptTask(0, episodes, {}), KeptTask(1, (replace(late, name="episode 1"), late), {})))


def on_a_map() -> Trajectories:
    names = ("before adaptation", "after 1 step", "after 3 steps")
    episodes = tuple(KeptEpisode(name, (-1.0, -0.5), ((0.0, 0.0), (0.1, n / 10), (0.2, n / 5))) for n, name in enumerate(names))
    return Trajectories("points", (KeptTask(0, episodes, {"goal": (0.4, -0.3)}, BELIEF),), ((-0.6, -0.6), (0.6, 0.6)))


def painted(image: Image.Image, color: str) -> int:
    return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - ImageColor.getrgb(color)).sum(-1) < 30).sum())


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_boards_move_and_stop_where_the_still_picture_is(theme: object) -> None:
    assert theme in (LIGHT, DARK)
    pictures = BoardPictures(on_boards(), LIGHT if theme is LIGHT else DARK)
    surface = ImageColor.getrgb(pictures.theme.surface)
    with Image.open(io.BytesIO(pictures.moving())) as moving, Image.open(io.BytesIO(pictures.still())) as still:
        assert moving.n_frames == 4
        assert moving.size == still.size
        assert moving.size[0] <= 2 * pictures.page_width + 1
        counts = []
        for frame in range(4):
            moving.seek(frame)
            assert moving.convert("RGB").getpixel((0, 0)) == surface  # no frame around it on the page
            counts.append(painted(moving, pictures.theme.palette[0]))
        assert counts == sorted(counts)
        assert len(set(counts)) == 4  # the trails grow
        assert painted(still, pictures.theme.palette[0]) == pytest.approx(counts[-1], rel=0.02)


def test_long_episodes_leave_out_steps() -> None:
    walk = tuple([("@.",), (".@",)][step % 2] for step in range(500))
    trajectories = Trajectories("long", (KeptTask(0, (KeptEpisode("episode 1", (0.0,) * 499, drawings=walk),), {}),))
    with Image.open(io.BytesIO(BoardPictures(trajectories, LIGHT).moving())) as picture:
        assert 50 <= picture.n_frames <= 62


def test_ways_are_drawn_on_the_map_with_the_goal() -> None:
    figure = trajectory_figure(on_a_map(), LIGHT)
    assert figure is not None
    (axes,) = figure.axes
    ways = [np.array(line.get_xydata()).round(6).tolist() for line in axes.lines if len(line.get_xydata()) == 3]
    assert ways == [[list(place) for place in episode.places] for episode in on_a_map().tasks[0].episodes]
    assert axes.get_xlim() == (-0.6, 0.6)
    assert [0.4, -0.3] in [np.array(line.get_xydata())[0].tolist() for line in axes.lines if len(line.get_xydata()) == 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "before adaptation", "after 1 step", "after 3 steps", "start", "goal",
    ]  # fmt: skip


def test_without_a_map_the_reward_so_far_is_drawn() -> None:
    task = KeptTask(3, (KeptEpisode("episode 1", (1.0, 2.0)), KeptEpisode("episode 9", (3.0,))), {})
    figure = trajectory_figure(Trajectories("poles", (task,)), LIGHT)
    assert figure is not None
    lines = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) > 1]
    assert [np.array(line).tolist() for line in lines] == [[[0, 0], [1, 1], [2, 3]], [[0, 0], [1, 3]]]


def test_beliefs_are_drawn_with_their_deviations() -> None:
    figure = beliefs_figure(on_a_map(), LIGHT)
    assert figure is not None
    lines = [np.array(line.get_xydata()) for line in figure.axes[0].lines if len(line.get_xydata()) == 3]
    assert [line[:, 1].tolist() for line in lines] == [[0.0, 0.5, 2.0], [0.0, 0.1, 0.1]]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-1.0, pytest.approx(2.1))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["entry 1", "entry 4"]
    assert beliefs_figure(on_boards(), LIGHT) is None


def test_a_run_has_the_pictures_that_it_has_data_for(tmp_path: Path) -> None:
    assert control_pictures(tmp_path) == {}
    write_trajectories(tmp_path, on_a_map())
    pictures = control_pictures(tmp_path)
    assert list(pictures) == ["trajectories", "beliefs"]
    assert not pictures["trajectories"].moving_light
    write_trajectories(tmp_path, on_boards())
    assert list(control_pictures(tmp_path)) == ["trajectories"]
    assert control_pictures(tmp_path)["trajectories"].moving_dark
