"""What a user's own class is checked for holds for ours: `metaloop.testing` on every learner, comparison and model."""

import pytest
import torch
from made_tasks import WAYS, made_inputs, made_model
from members import COMPARISONS, IN_CONTEXT, LEARNERS, METRIC, MODELS, OF_MAPS, OF_TEXTS

from metaloop.inner.execution.over_tasks import Loop
from metaloop.testing import check_comparison, check_learner, check_model

APPROXIMATE = ("fomaml", "reptile")
IN_ORDER = (
    "snail",
    "lstm",
    "memory",
    "memory, gate of the controller",
    "inner batches",
    "inner batches, shuffled",
    "matching, in context",
)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners(name: str) -> None:
    model = "conv4, maps" if name in OF_MAPS else "mlp"
    outputs = None if name in (*METRIC, *IN_CONTEXT) else WAYS
    learner = LEARNERS[name](made_model(model, norm="layer", outputs=outputs), Loop())
    check_learner(learner, MODELS[model][0], ways=WAYS, ordered=name in IN_ORDER, exact=name not in APPROXIMATE)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name: str) -> None:
    check_comparison(COMPARISONS[name](), ordered=name in IN_ORDER)


@pytest.mark.parametrize("norm", ["support", "layer"])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, norm: str) -> None:
    shape, build = MODELS[name]
    inputs = made_inputs(shape, (6,), text=name in OF_TEXTS, random=torch.Generator().manual_seed(2))
    check_model(lambda shape, outputs: build(shape, outputs, norm), shape, inputs=inputs)
