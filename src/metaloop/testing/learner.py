"""Check a learner against its contract."""

import copy
import io
from dataclasses import replace

import torch
from torch import Tensor

from metaloop.data.padding import blank_padding
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.learners.learner import Learner
from metaloop.testing.laws import require, require_derivative, require_equal, require_same, require_shape
from metaloop.testing.tasks import QUERIES, TASKS, made_tasks, padded, rows, with_other_padding
from metaloop.types import Examples, Params, Tasks, map_inputs


def check_learner(
    learner: Learner,
    input_shape: tuple[int, ...],
    *,
    ways: int = 3,
    targets: int | None = None,
    ordered: bool = False,
    exact: bool = True,
    vmap: bool = True,
) -> None:
    """Check a learner against the contract of :class:`metaloop.learners.learner.Learner`.

    - Answers have the right shape.
    - Tasks of a meta-batch do not affect each other.
    - Padding and query labels change no answer, nor does the order of the support set, nor do other queries unless the learner
      is transductive.
    - Absent classes get no probability.
    - The meta-gradient is the derivative of the meta-loss.
    - vmap gives the results of a loop.
    - The state dict restores the answers.

    Args:
        learner: a learner for ``ways`` classes, or ``targets`` numbers; it is not changed.
        input_shape: shape of one example.
        ways: number of classes of a task.
        targets: size of a regression target; None for classification.
        ordered: whether the order of the support set may matter, as it does to recurrent networks.
        exact: whether the meta-gradient is the derivative of the meta-loss; False for approximations such as first order.
        vmap: whether tasks can be run by ``torch.func.vmap``.

    Raises:
        BrokenLaw: a law is broken; the message says by how much.
    """
    learner = copy.deepcopy(learner).double().eval()
    learner.over_tasks = Loop()
    tasks = made_tasks(input_shape, ways=ways, targets=targets, unlabelled=2 * ways if learner.uses_unlabelled else 0)
    _check_shapes(learner, tasks)
    _check_tasks_are_independent(learner, tasks)
    _check_queries(learner, tasks)
    _check_padding(learner, padded(tasks))
    _check_query_labels(learner, tasks)
    if not ordered:
        order = torch.randperm(tasks.support.y.shape[1], generator=torch.Generator().manual_seed(3))
        law = "the order of the support set must change no answer (ordered=True for a learner that reads it in order)"
        require_equal(
            _answers(learner, rows(tasks.support, order), tasks.query), _answers(learner, tasks.support, tasks.query), law
        )
    if targets is None:
        _check_absent_classes(learner, padded(tasks))
    if exact and learner.learns:
        _check_gradient(learner, tasks)
    if vmap:
        _check_vmap(learner, padded(tasks))
    _check_state(learner, tasks)


def _answers(learner: Learner, support: Examples, query: Examples) -> Tensor:
    with torch.no_grad():
        return learner.adapt(support)(query.x, query.mask)


def _meta_gradient(learner: Learner, tasks: Tasks) -> tuple[Tensor, Params]:
    learner.zero_grad()
    loss = learner.meta_loss(tasks).loss
    torch.autograd.backward(loss)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in learner.named_parameters()}
    return loss.detach(), gradients


def _check_shapes(learner: Learner, tasks: Tasks) -> None:
    queries = tasks.query.y.shape[1]
    output = (tasks.support.ways,) if tasks.support.ways else tuple(tasks.query.y.shape[2:])
    answers = _answers(learner, tasks.support, tasks.query)
    if not tasks.support.ways and answers.ndim == len(output) + 3:
        output = (*output, 2)  # means and standard deviations
    require_shape(answers, (TASKS, queries, *output), "adapt(support)(x) must answer (tasks, queries, *output)")
    outcome = learner.meta_loss(tasks)
    require_shape(outcome.loss, (), "OuterLoss.loss must be one number")
    require_shape(outcome.query_logits, (TASKS, queries, *output), "OuterLoss.query_logits must be (tasks, queries, *output)")
    require(
        outcome.per_step.ndim == 2, f"OuterLoss.per_step must be (tasks, points), not of shape {tuple(outcome.per_step.shape)}"
    )
    detached = not (outcome.query_logits.requires_grad or outcome.per_step.requires_grad)
    require(detached, "OuterLoss.query_logits and per_step must be detached")


def _check_tasks_are_independent(learner: Learner, tasks: Tasks) -> None:
    one = tasks[:1]
    law = "the answers of a task must not depend on the tasks beside it"
    require_equal(_answers(learner, one.support, one.query), _answers(learner, tasks.support, tasks.query)[:1], law)


def _check_padding(learner: Learner, tasks: Tasks) -> None:
    """Require that the values in padding change no answer and no meta-gradient."""
    noisy = replace(tasks, support=with_other_padding(tasks.support), query=with_other_padding(tasks.query))
    blank = blank_padding(tasks)  # as in a run
    real = tasks.query.mask
    expected = _answers(learner, blank.support, blank.query)[real]
    require_shape(expected, tuple(expected.shape), "answers where padding is zero")
    law = "the values in padding must change no answer: support examples count only where support.mask is true"
    require_equal(_answers(learner, noisy.support, noisy.query)[real], expected, law)
    (loss, gradient), (other_loss, other_gradient) = _meta_gradient(learner, blank), _meta_gradient(learner, noisy)
    for name, value in gradient.items():
        require_shape(value, tuple(value.shape), f"the meta-gradient where padding is zero ({name})")
    require_equal(other_loss, loss, "the values in padding must not change the meta-loss")
    require_same(other_gradient, gradient, "the values in padding must not change the meta-gradient")


def _check_queries(learner: Learner, tasks: Tasks) -> None:
    predictor, count = learner.adapt(tasks.support), tasks.query.y.shape[1]
    order = torch.arange(count).flip(0)
    with torch.no_grad():
        all_queries = predictor(tasks.query.x)
        reversed_queries = predictor(map_inputs(lambda x: x[:, order], tasks.query.x))
        fewer_queries = predictor(map_inputs(lambda x: x[:, :QUERIES], tasks.query.x))
    require_equal(reversed_queries, all_queries[:, order], "the order of the queries must change no answer")
    if not learner.transductive:
        law = "other queries must change no answer, since transductive is False"
        require_equal(fewer_queries, all_queries[:, :QUERIES], law)


def _check_query_labels(learner: Learner, tasks: Tasks) -> None:
    y = (tasks.query.y + 1) % tasks.query.ways if tasks.query.ways else tasks.query.y + 1
    other = replace(tasks, query=replace(tasks.query, y=y))
    law = "query labels must not change the answers (OuterLoss.query_logits)"
    require_equal(learner.meta_loss(other).query_logits, learner.meta_loss(tasks).query_logits, law)


def _check_absent_classes(learner: Learner, tasks: Tasks) -> None:
    probability = float(_answers(learner, tasks.support, tasks.query)[1].softmax(-1)[..., -1].max())
    law = "a class without a real support example must get no probability (metaloop.problems.task_loss.without_absent_classes)"
    require(probability == 0, f"{law}; it gets up to {probability:.3g}")


def _check_gradient(learner: Learner, tasks: Tasks) -> None:
    parameters = {name: value for name, value in learner.named_parameters() if value.requires_grad}
    _, gradient = _meta_gradient(learner, tasks)

    def value() -> float:
        with torch.no_grad():
            return learner.meta_loss(tasks).loss.item()

    law = "loss.backward() must give the derivative of the meta-loss (exact=False for a meta-gradient that is an approximation)"
    require_derivative(value, parameters, gradient, law)


def _check_vmap(learner: Learner, tasks: Tasks) -> None:
    loss, gradient = _meta_gradient(learner, tasks)
    expected = _answers(learner, tasks.support, tasks.query)
    learner.over_tasks = Vmap()
    try:
        other_loss, other_gradient = _meta_gradient(learner, tasks)
        answers = _answers(learner, tasks.support, tasks.query)
    finally:
        learner.over_tasks = Loop()
    require_equal(other_loss, loss, "vmap over tasks must give the meta-loss of the loop (vmap=False if it cannot)")
    require_same(other_gradient, gradient, "vmap over tasks must give the meta-gradient of the loop")
    require_equal(answers, expected, "vmap over tasks must give the answers of the loop")


def _check_state(learner: Learner, tasks: Tasks) -> None:
    expected = _answers(learner, tasks.support, tasks.query)
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(learner)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    law = "a learner that loads the state dict must answer as before (is all that is learned an nn.Parameter or a buffer?)"
    require_equal(_answers(other, tasks.support, tasks.query), expected, law)
