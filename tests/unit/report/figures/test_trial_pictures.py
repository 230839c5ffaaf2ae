"""Paths as text, and moving pictures."""

import io

import numpy as np
from PIL import Image, ImageColor

from metaloop.report.figures.boards import with_trail
from metaloop.report.figures.theme import LIGHT
from metaloop.report.figures.trial_pictures import moving_picture, side_by_side

WALK = [["@.#", "..*"], [".@#", "..*"], ["..#", ".@*"], ["..#", "..@"]]


def test_a_trail_marks_free_places_only() -> None:
    assert with_trail(WALK) == ["++#", ".+@"]
    assert with_trail(WALK[:2]) == ["+@#", "..*"]
    assert with_trail([["o.", ".="], ["..", ".o"]]) == ["'.", ".o"]
    assert with_trail([["@k"], ["k@"]]) == ["k@"]  # nothing is hidden by a trail


def test_drawings_stand_beside_each_other_below_their_titles() -> None:
    drawings = [["@.", ".*"], [".@", ".*"], ["..", ".@"]]
    lines = side_by_side(drawings, ["one", "two", "three"], width=14)
    assert lines == ["one     two", "@ .     . @", ". *     . *", "", "three", ". .", ". @", ""]
    assert len(side_by_side(drawings, ["one", "two", "three"], width=1)) == 12


def test_a_moving_picture_has_a_frame_for_each_state() -> None:
    content = moving_picture([WALK, WALK[2:]], [["a", "b", "c", "d"], ["e", "f"]])
    player = ImageColor.getrgb(LIGHT.palette[0])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.n_frames == 6
        shares = []  # of each place, in the color of the player and of its trail, which is smaller
        for frame in range(6):
            picture.seek(frame)
            pixels = np.asarray(picture.convert("RGB")).astype(int)[16:]
            painted = (np.abs(pixels - player).sum(-1) < 30).reshape(2, 80, 3, 80).mean((1, 3))
            shares.append(np.digitize(painted, [0.02, 0.2]).tolist())
    assert shares[0] == [[2, 0, 0], [0, 0, 0]]
    assert shares[1] == [[1, 2, 0], [0, 0, 0]]
    assert shares[3] == [[1, 1, 0], [0, 1, 2]]
    assert shares[4] == [[0, 0, 0], [0, 2, 0]]  # a new episode has no trail of the one before
