"""Paths as text, and moving pictures."""

import io

from PIL import Image

from metaloop.report.figures.trial_pictures import moving_picture, side_by_side, with_trail

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
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.n_frames == 6
        colors = []
        for frame in range(6):
            picture.seek(frame)
            pixels = picture.convert("RGB")
            colors.append([[pixels.getpixel((80 * column + 40, 80 * row + 56)) for column in range(3)] for row in range(2)])
    player, wall, trail = colors[0][0][0], colors[0][0][2], colors[1][0][0]
    assert colors[3][1][2] == player
    assert colors[3][0][:2] == [trail, trail]
    assert colors[4][1][1] == player
    assert colors[4][0][1] not in (player, trail, wall)  # a new episode has no trail of the one before
    assert len({player, wall, trail}) == 3
