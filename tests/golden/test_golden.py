"""Twenty steps of every preset give the losses that they gave before; golden_losses.py says how to renew them."""

import json

import pytest
from golden_losses import LOSSES, PRESETS, STEPS, losses


def test_every_preset_has_its_losses_and_no_other() -> None:
    assert sorted(path.stem for path in LOSSES.glob("*.json")) == PRESETS
    assert len(PRESETS) == 52


@pytest.mark.parametrize("preset", PRESETS)
def test_losses_are_as_before(preset: str) -> None:
    expected = json.loads((LOSSES / f"{preset}.json").read_text())
    assert len(expected) == STEPS
    assert losses(preset) == pytest.approx(expected, rel=1e-4)


def test_presets_differ() -> None:
    """Else an override of a preset has been lost. FOMAML starts as MAML does and parts from it with the first update."""
    found = {preset: json.loads((LOSSES / f"{preset}.json").read_text()) for preset in PRESETS}
    assert found.pop("joint") == found["finetune"]  # pretraining is the same; the tasks adapt in other ways
    for preset in ("laplacian_shot", "transductive_fine_tuning"):  # trained to classify, too; they compare in other ways
        assert found.pop(preset) == found["simpleshot"]
    assert found["meta_baseline"][:10] == found["simpleshot"][:10]  # classification, and then it goes another way
    assert len({tuple(values) for values in found.values()}) == len(found)
    as_maml = ("fomaml", "metasgd", "meta_curvature", "sparse_maml", "warpgrad", "es_maml")
    assert {found[preset][0] for preset in as_maml} == {found["maml"][0]} != {found["anil"][0]}
