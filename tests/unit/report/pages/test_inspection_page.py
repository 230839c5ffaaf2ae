"""The page of an inspection: what it concludes, shows, and does not show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR, Metric
from metaloop.records.schema import INSPECTION_VERSION
from metaloop.report.figures.inspection_plots import losses_figure, movement_figure, parts_figure, similarity_figure
from metaloop.report.figures.map_plots import classes_figure, confusion_figure, map_figure
from metaloop.report.figures.theme import DARK, LIGHT
from metaloop.report.pages.inspection_page import PICTURES, conclusion, lines, read_inspection, write_inspection_page

Points = list[dict[str, float | None]]


def at(mean: float | None, half_width: float | None = 0.01) -> dict[str, float | None]:
    return {"mean": mean, "half_width": None if mean is None else half_width}


def curve(*means: float | None) -> Points:
    return [at(mean) for mean in means]


def parts(start: float, head: float, body: float, adapted: float, half_width: float = 0.01) -> dict[str, Any]:
    scores = {"start": start, "head": head, "body": body}
    against = {name: at(adapted - score, half_width) for name, score in scores.items()}
    above = {name: at(scores[name] - start, half_width) for name in ("head", "body")}
    return {name: at(score) for name, score in {**scores, "all": adapted}.items()} | {
        "all_minus": against,
        "minus_start": above,
    }


def made(**other: Any) -> dict[str, Any]:
    """An inspection of a two-layer network after two inner steps."""
    layer = {"distance": curve(0, 1, 2), "relative_distance": curve(0, 0.1, 0.2), "cosine": curve(1, 0.9, 0.8)}
    similar = {"cka": curve(1, 0.9, 0.7), "cosine": curve(1, 0.8, 0.6)}
    found = {
        "schema": INSPECTION_VERSION, "run": "a <b>run", "seed": 3,
        "choices": {"algorithm": "maml", "model": "mlp", "dataset": "blobs"},
        "setting": "5-way 1-shot", "metric": ACCURACY, "level": 0.95, "episodes": 40, "ways": 5, "shots": 1, "queries": 2,
        "split": "test", "norm_mode": "batch", "transductive": True, "steps": 2, "points": [0, 1, 2],
        "score": curve(0.2, 0.6, 0.8), "query_loss": curve(1.6, 1.0, 0.5), "inner_loss": curve(1.6, 0.5, 0.1),
        "adapted": ["layers.0.weight", "head.weight"],
        "parameters": [{"layer": name, **layer, "gradient_norm": curve(3, 2, 1)} for name in ("layers.0", "head")],
        "representations": [{"layer": name, **similar} for name in ("layers.0", "head")],
        "parts": parts(0.2, 0.75, 0.4, 0.8), "by_episode": {},
        "classes": [
            {"class": f"$c{i}_", "queries": 4, "episodes": 2, "mean": 0.5 + i / 100, "low": 0.4, "high": 0.9} for i in range(40)
        ],
        "confusion": [{"class": "$c1_", "answer": "$c2_", "taken": 3, "asked": 4}],
    }  # fmt: skip
    return found | other


def without(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in names}


def stepless() -> dict[str, Any]:
    bare = without(made(), "inner_loss", "adapted", "parameters", "representations")
    alone = {"all": at(0.9), "all_minus": {}, "minus_start": {}}
    return bare | {"steps": None, "points": [0], "score": curve(0.9), "query_loss": curve(0.3), "parts": alone}


def regression() -> dict[str, Any]:
    errors = {"metric": MEAN_SQUARED_ERROR, "parts": parts(4.0, 1.0, 2.0, 0.5), "score": made()["query_loss"]}
    return without(made(**errors), "classes", "confusion")


def written(folder: Path, found: dict[str, Any], points: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inspection.json").write_text(json.dumps(found, default=Metric.as_dict))
    if points:
        np.savez(folder / "inspection.npz", **made_map())
    return folder


def made_map(classes: int = 9) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 4)
    places = {name: generator.normal(size=(len(labels), 2)) for name in ("before", "after")}
    return places | {
        "label": labels,
        "is_query": np.tile([False, True, True, True], classes),
        "explained": np.array([0.5, 0.2]),
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (made(parts=parts(0.2, 0.795, 0.4, 0.8)), "Feature reuse: adaptation moves the score from 20.00"),
        (made(parts=parts(0.2, 0.9, 0.4, 0.8)), "Feature reuse"),
        (made(parts=parts(0.2, 0.205, 0.4, 0.8)), "Rapid learning"),
        (made(parts=parts(0.2, 0.65, 0.4, 0.8)), "Both"),
        (made(parts=parts(0.2, 0.65, 0.4, 0.8)), "(difference +15.00 ± 1.00 points): 25 % of the gain needs the body"),
        (made(parts=parts(0.2, 0.2, 0.2, 0.205)), "no sure gain"),
        (made(parts=parts(0.8, 0.2, 0.2, 0.2)), "no sure gain"),
        (regression(), "Both: adaptation moves the score from 4.0000 ± 0.0100 to 0.5000"),
        (regression(), "14 % of the gain"),
        (stepless(), "takes no inner steps; its score is 90.00 ± 1.00 %"),
    ],
)
def test_the_conclusion_follows_from_paired_intervals(found: dict[str, Any], expected: str) -> None:
    assert expected in conclusion(found)


@pytest.mark.parametrize(("name", "part"), [("head.weight", "head"), ("layers.0.weight", "body")])
def test_where_one_part_adapts_it_is_named(name: str, part: str) -> None:
    every = parts(0.2, 0.3, 0.3, 0.8)
    alone = {"start": every["start"], "all": every["all"], "all_minus": {"start": at(0.6)}, "minus_start": {}}
    assert f"only the {part} adapts" in conclusion(made(adapted=[name], parts=alone))


def test_the_page_has_every_picture_and_says_what_it_is_about(tmp_path: Path) -> None:
    page = write_inspection_page(written(tmp_path, made(), points=True)).read_text()
    assert page.count("<picture>") == len(PICTURES)
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in PICTURES)
    for text in (
        "a &lt;b&gt;run",
        "Both: ",
        "maml, mlp, blobs",
        "2 inner steps",
        "norm batch, transductive",
        "first 40",
        "3 of 4",
        "75 %",
    ):
        assert text in page, text
    assert "Not shown" not in page
    assert "<b>run" not in page


def test_what_is_not_there_is_explained(tmp_path: Path) -> None:
    page = write_inspection_page(written(tmp_path / "a", stepless(), points=True)).read_text()
    assert "takes no inner steps" in page
    assert page.count("<picture>") == 3  # map, classes, confusion
    page = write_inspection_page(written(tmp_path / "b", regression())).read_text()
    assert "these tasks have no classes" in page
    assert page.count("<picture>") == 4
    page = write_inspection_page(written(tmp_path / "c", made())).read_text()
    assert "no known embedding of single examples" in page


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_inspection(tmp_path)
    written(tmp_path, made(schema=0))
    with pytest.raises(UserError, match="run it again"):
        read_inspection(tmp_path)
    written(tmp_path, made())
    (tmp_path / "inspection.npz").write_bytes(b"half")
    with pytest.raises(UserError, match=r"inspection\.npz cannot be read"):
        write_inspection_page(tmp_path)


def test_the_command_says_scores_and_similarities(tmp_path: Path) -> None:
    said = lines(written(tmp_path, made()))
    assert "head only  75.00 ± 1.00 %" in said
    assert "CKA by layer  layers.0 0.700, head 0.700" in said
    missing = [{"layer": "head", "cka": curve(None, None), "cosine": curve(1, 1)}]
    assert "CKA by layer  head –" in lines(written(tmp_path, made(representations=missing)))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_figures_draw_the_numbers(theme: Any) -> None:
    found = made()
    names = {"start": "before", "all": "after", "head": "h", "body": "b"}
    assert [tick.get_text() for tick in parts_figure(found, names, theme).axes[0].get_yticklabels()] == list(names.values())
    loss, accuracy = losses_figure(found, theme).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[1.6, 0.5, 0.1], [1.6, 1.0, 0.5]]
    assert accuracy.lines[0].get_ydata() == pytest.approx([20, 60, 80])
    cka = similarity_figure(found, theme).axes[1]
    assert cka.lines[0].get_ydata().tolist() == [1, 0.9, 0.7]
    assert cka.get_ylim() == (0, 1.04)
    assert [ax.get_ylabel() for ax in movement_figure(found, theme).axes] == [
        "distance from the start / its norm", "cosine with the start", "norm of the inner gradient",
    ]  # fmt: skip
    worst = classes_figure(found, theme).axes[0]
    assert worst.get_title(loc="left") == "30 of 40 classes, the worst first"
    (image,) = confusion_figure(found, theme).axes[0].images
    assert np.nan_to_num(image.get_array().filled(0)).tolist() == [[0, 75], [0, 0]]
    assert len(map_figure(made_map(), theme).axes) == 2


def test_parameters_that_start_at_zero_are_drawn_by_their_distance() -> None:
    nothing = {"relative_distance": curve(None, None, None), "cosine": curve(None, None, None)}
    rows = [{"layer": "l", "distance": curve(0, 1, 2), **nothing, "gradient_norm": curve(1, 1, 1)}]
    axes = movement_figure(made(parameters=rows), LIGHT).axes
    assert [ax.get_ylabel() for ax in axes] == ["distance from the start", "norm of the inner gradient"]


def test_a_layer_has_one_look_in_all_figures() -> None:
    found = made(parameters=made()["parameters"][1:])
    moved, alike = movement_figure(found, LIGHT).axes[0].lines, similarity_figure(found, LIGHT).axes[1].lines
    assert moved[0].get_color() == alike[1].get_color() != alike[0].get_color()


def test_a_picture_of_an_earlier_inspection_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "confusion.png").write_bytes(b"old")
    write_inspection_page(written(tmp_path, without(stepless(), "classes") | {"confusion": []}))
    assert not (tmp_path / "confusion.png").exists()


def test_nothing_is_drawn_of_nothing() -> None:
    assert confusion_figure(made(confusion=[]), LIGHT) is None
    assert classes_figure(regression(), LIGHT) is None
    assert losses_figure(stepless(), LIGHT) is None
    assert similarity_figure(stepless(), LIGHT) is None
    assert movement_figure(stepless(), LIGHT) is None
    assert parts_figure(stepless(), {"start": "a", "all": "b"}, LIGHT) is None


def test_classes_that_share_a_colour_differ_in_their_mark() -> None:
    named = map_figure(made_map() | {"names": np.array([f"name {label}" for label in range(20)])}, LIGHT)
    assert named.legends[0].get_texts()[1].get_text() == "name 1"
    ax = map_figure(made_map(20), LIGHT).axes[0]
    looks = {
        (tuple(c.get_facecolor()[0][:3]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections if len(c.get_sizes())
    }
    assert len(looks) == 20


def test_the_same_numbers_give_the_same_page(tmp_path: Path) -> None:
    folder = written(tmp_path, made(), points=True)
    assert write_inspection_page(folder).read_bytes() == write_inspection_page(folder).read_bytes()
