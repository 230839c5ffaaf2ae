"""A check of a network on the first examples, before training: what it answers, and what it keeps between calls."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.module_call import ModuleCall
from metaloop.learners.learner import Learner
from metaloop.models.adapter import as_model
from metaloop.models.norm import OF_EXAMPLES, norm_modes
from metaloop.types import Examples, Tasks, map_inputs

_SAME = 1e-3  # relative distance of two gradients in float32 that counts as rounding
_SIMILAR = 1e-2  # likewise of two answers, of networks in any precision


def check_network(learner: Learner, tasks: Tasks) -> None:
    """Call the learner's network a few times on a support set and check what cannot be read off its class.

    The calls leave nothing behind: parameters, buffers and the state of the random generators are as before.

    Args:
        learner: A learner in training mode.
        tasks: A meta-batch.

    Raises:
        UserError: The network does not answer one tensor with a row for each example and enough columns, changes a buffer when
            it is called, uses parameters that it does not register, is no function of its parameters, or answers an example in
            evaluation by chance or by the other examples.
    """
    model = learner.model
    support = tasks.support.map(lambda tensor: tensor[0])
    weighted = as_model(model).takes_weight and support.mask is not None
    arguments = (support.x, support.mask) if weighted else (support.x,)
    devices = [support.y.device] if support.y.device.type == "cuda" else []
    name = type(model).__qualname__
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        with _unchanged(model.named_buffers()) as buffers:
            answers = model(*arguments)
            changed = [key for key, before in buffers.items() if not torch.equal(before, model.get_buffer(key))]
        _check_answers(answers, name, len(support.y), support.ways if learner.requires.head else 0)
        if changed:
            raise UserError(
                f"model: a call of {name} changes its buffer {', '.join(changed)}, so a task would depend on those before it; "
                f"keep no state in forward, or take metaloop.models.norm.Norm in mode running for running averages"
            )
        _check_registered(answers, model, name)
        _check_function(model, arguments, name)
        if not learner.transductive and not norm_modes(model).intersection(OF_EXAMPLES):
            _check_alone(model, support, name)


@contextmanager
def _unchanged(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Yield copies of the tensors by name, and give the tensors their values back on exit."""
    kept = dict(tensors)
    copies = {name: tensor.detach().clone() for name, tensor in kept.items()}
    try:
        yield copies
    finally:
        with torch.no_grad():
            for name, tensor in kept.items():
                tensor.copy_(copies[name])


def _check_answers(answers: object, name: str, examples: int, ways: int) -> None:
    if not isinstance(answers, Tensor):
        keys = f" with the keys {', '.join(map(str, answers))}" if isinstance(answers, dict) else ""
        raise UserError(
            f"model: {name}.forward returns a {type(answers).__name__}{keys}; it must return one tensor (examples, outputs)"
        )
    wanted = f"({examples}, {ways})" if ways else f"({examples}, ...)"
    fits = answers.ndim >= 1 and len(answers) == examples and (not ways or (answers.ndim == 2 and answers.shape[1] >= ways))
    if not fits:
        raise UserError(
            f"model: {name}.forward returns the shape {tuple(answers.shape)} for {examples} examples"
            f"{f' of {ways} classes' if ways else ''}; it must return {wanted}, with as many outputs as its constructor's "
            f"argument `outputs` says"
        )


def _check_registered(answers: Tensor, model: nn.Module, name: str) -> None:
    """Raise a UserError if the answers depend on a leaf tensor that is not among the model's parameters."""
    registered = {id(parameter) for parameter in model.parameters()}
    for leaf in _leaves(answers):
        if id(leaf) not in registered:
            raise UserError(
                f"model: {name}.forward uses a parameter of shape {tuple(leaf.shape)} that the module does not register, so it "
                f"would be neither trained nor saved; keep layers as attributes, or in torch.nn.ModuleList or ModuleDict"
            )


def _leaves(answers: Tensor) -> Iterator[Tensor]:
    """Yield the tensors with gradients that ``answers`` was computed from."""
    todo, seen = [answers.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the end of the graph is a node that adds to a leaf's gradient
            yield node.variable
        todo += [following for following, _ in node.next_functions]


def _check_function(model: nn.Module, arguments: tuple[object, ...], name: str) -> None:
    """Raise a UserError if passed parameters give another gradient than the same numbers as the model's own parameters.

    They do if a layer reads its own parameters later, as ``torch.utils.checkpoint`` does in the backward pass.
    """
    own = {key: value for key, value in model.named_parameters() if value.requires_grad and value.is_floating_point()}
    if not own:
        return
    with _unchanged(own.items()) as before, _unchanged(model.named_buffers()):
        passed = {key: (value * 1.01 + 1e-3).requires_grad_() for key, value in before.items()}
        actual = _gradients(lambda: ModuleCall(model)(passed, arguments), passed)
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(passed[key])
        expected = _gradients(lambda: model(*arguments), own)
    error, size = ((a - b).norm() for a, b in ((expected, actual), (expected, 0.0)))
    if error > _SAME * size:
        raise UserError(
            f"model: with parameters that are passed to it, {name} has other gradients than with its own, so it cannot be "
            f"adapted to tasks; it may read parameters outside of forward, as torch.utils.checkpoint does, which is to go"
        )


def _check_alone(model: nn.Module, support: Examples, name: str) -> None:
    """Raise a UserError if an example's answer in evaluation is random or depends on the other examples of the batch."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            one = map_inputs(lambda tensor: tensor[:1], support.x)
            together, again, alone = model(support.x), model(support.x), model(one)
    finally:
        for module, training in modes.items():
            module.training = training
    if not torch.equal(together, again):
        raise UserError(
            f"model: in evaluation, two calls of {name} answer the same examples differently, so its scores would not be "
            f"reproducible; draw random numbers only if self.training"
        )
    if not torch.allclose(together[:1].float(), alone.float(), rtol=_SIMILAR, atol=_SIMILAR):
        raise UserError(
            f"model: in evaluation, {name} answers an example differently beside others than alone, so queries would see each "
            f"other and no record would say so; take statistics of examples by metaloop.models.norm.Norm, which records name"
        )


def _gradients(call: Callable[[], Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
    """Return all gradients of the squared answers as one vector; the same random numbers are drawn at each call."""
    torch.manual_seed(0)
    answers = call()
    if not answers.requires_grad:
        return torch.zeros(1)
    gradients = torch.autograd.grad((answers.float() ** 2).sum(), list(parameters.values()), allow_unused=True)
    return torch.cat([gradient.flatten().float() for gradient in gradients if gradient is not None])
