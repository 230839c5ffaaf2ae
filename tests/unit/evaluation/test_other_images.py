"""A run on grey images of 8x8 pixels, with bright digits on black, is evaluated on a folder of colour pictures."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.evaluate import evaluate
from metaloop.evaluation.finished_run import load_run
from small_runs import SMALL_CONF, words

CONFIG_DIR = [str(SMALL_CONF)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, and some of the digits as colour pictures: dark on white, twice as large."""
    place = tmp_path_factory.mktemp("others")
    assert main(words(place / "run", "dataset=digits", "trainer.max_steps=2")) == 0
    digits = load_digits()
    for label in range(4):
        (place / "own" / str(label)).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:6]):
            dark = (255 - np.round(image * (255 / 16))).astype(np.uint8)
            Image.fromarray(dark.repeat(2, 0).repeat(2, 1)).convert("RGB").save(place / "own" / str(label) / f"{number}.png")
    return place


def overrides(place: Path, *more: str) -> list[str]:
    shares = "dataset.classes={train: 0, validation: 0, test: 1}"
    return ["dataset=image_folder", f"dataset.path={place / 'own'}", shares, "dataset.decoders=0", *more]


def test_E18_a_grey_run_is_tested_on_colours_in_its_own_size(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = {}
    for mode in ("grey", "ink"):
        with caplog.at_level(logging.WARNING):
            record, target = evaluate(place / "run", overrides(place, f"dataset.mode={mode}"), CONFIG_DIR)
        assert record.config["dataset"]["side"] == 8
        assert "dataset.side=8, as the run was trained, and not 84" in caplog.text
        scores[mode] = (target / "episodes.csv").read_text()
    assert scores["grey"] != scores["ink"]


def test_E18_the_pictures_are_those_that_the_run_had(place: Path) -> None:
    record, _ = evaluate(place / "run", overrides(place, "dataset.mode=ink"), CONFIG_DIR)
    images = load_run(place / "run").test(record.config).data.dataset.split("test").inputs
    assert isinstance(images, torch.Tensor)
    digits = load_digits()
    wanted = torch.from_numpy(np.concatenate([digits.images[digits.target == label][:6] for label in range(4)]) * (255 / 16))
    assert images.shape == (24, 1, 8, 8)
    assert (images[:, 0].double() - wanted).abs().mean() < 10  # resized there and back


@pytest.mark.parametrize(
    ("more", "remedy"),
    [
        ((), r"set dataset\.mode=grey \(or ink, for dark drawings on white"),
        (("dataset.mode=grey", "dataset.side=9"), r"set dataset\.side=8$"),
        (("dataset.side=9",), r"set dataset\.side=8 and dataset\.mode=grey"),
    ],
)
def test_E18_images_of_another_form_are_refused_with_the_keys(place: Path, more: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(UserError, match=r"trained on inputs of shape \(1, 8, 8\), this data set has.*: " + remedy):
        evaluate(place / "run", overrides(place, *more), CONFIG_DIR)
    with pytest.raises(UserError, match=r"dataset\.mode='gray' must be one of color, grey, ink"):
        evaluate(place / "run", overrides(place, "dataset.mode=gray"), CONFIG_DIR)
