"""The contract of readers, beyond that of all learners."""

from collections.abc import Callable

import pytest
import torch
from made_tasks import along, central_difference, made_model, made_tasks, meta_gradient, random_direction
from members import LEARNERS, READERS

from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.readers.versa import Versa
from metaloop.learners.learner import Learner
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Tasks

CLASSIFY_ONLY = ("versa",)


def classifier(name: str, norm: str = "layer") -> Learner:
    return LEARNERS[name](made_model("mlp", norm=norm, outputs=None), Loop())


def check_against_finite_differences(learner: Learner, tasks: Tasks) -> None:
    """Check the meta-gradient along a random direction; a ReLU's kink may spoil a difference of one size, not of all."""
    parameters = dict(learner.named_parameters())
    direction = random_direction(parameters, seed=1)
    expected = along(meta_gradient(learner, tasks)[1], direction)

    def value() -> float:
        with torch.no_grad():
            return learner.meta_loss(tasks).loss.item()

    found = [central_difference(value, parameters, direction, size) for size in (1e-5, 1e-6, 1e-7)]
    assert min(abs(each - expected) for each in found) < 1e-6 * abs(expected), (found, expected)


@pytest.mark.parametrize("name", READERS)
def test_meta_gradients_with_padding_equal_finite_differences(name: str) -> None:
    check_against_finite_differences(classifier(name), made_tasks("mlp", masked=True))


@pytest.mark.parametrize("gaussian", [False, True], ids=["values", "distributions"])
@pytest.mark.parametrize("name", [name for name in READERS if name not in CLASSIFY_ONLY])
def test_meta_gradients_of_regressors_equal_finite_differences(name: str, gaussian: bool) -> None:
    torch.manual_seed(0)
    model = MLP((1,), None, [8], frequencies=[0.2, 0.5])
    learner = InContext(model, MeanSquaredError(), 1, READERS[name], Loop(), gaussian=gaussian).double()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 7, 1, generator=random).double()
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, True, True]])
    tasks = Tasks(Examples(x[:, :4], x[:, :4].sin(), mask), Examples(x[:, 4:], x[:, 4:].sin()), torch.arange(3))
    check_against_finite_differences(learner, tasks)


def renamed(name: str, change: Callable[[Learner], None] = lambda learner: None) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers with class c numbered new[c], permuted back, and answers with the original numbers."""
    tasks, learner = made_tasks("mlp"), classifier(name)
    change(learner)
    new = torch.tensor([2, 0, 1])
    support = tasks.support.map(lambda t: t)
    other = Examples(support.x, new[support.y], support.mask, support.ways, support.number)
    return learner.adapt(other)(tasks.query.x)[..., new], learner.adapt(support)(tasks.query.x)


def without_spread(learner: Learner) -> None:
    assert isinstance(learner, InContext)
    assert isinstance(learner.reader, Versa)
    with torch.no_grad():
        learner.reader.log_variance.layers[-1].bias.fill_(-100.0)


def test_names_of_classes_permute_versas_answers_but_for_its_draws() -> None:
    """It computes the weights of every class in the same way, but its noise depends on the class number."""
    found, expected = renamed("versa", without_spread)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(*renamed("versa"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in READERS if name != "versa"])
def test_labels_that_are_inputs_cannot_be_renamed_exactly(name: str) -> None:
    """See :class:`Reader`: training on randomly numbered classes makes it approximately equivariant."""
    assert not torch.allclose(*renamed(name), rtol=1e-5, atol=1e-5)
