"""Agents of LPG: policies and predictions of one lifetime, which start at random."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metaloop.control.environments.environment import Environment
from metaloop.errors import UserError
from metaloop.inner.noise import normal
from metaloop.models.adapter import as_model
from metaloop.types import Params

_STREAM = 7  # of the random numbers within a task that weights are drawn from


def drawn_weights(numbers: Tensor, shapes: dict[str, tuple[int, ...]], scale: dict[str, float]) -> dict[str, Tensor]:
    """Draw normal weights (tasks, *shape) with the given deviations, a function of the tasks' numbers; float32."""
    sizes = [int(torch.Size(shape).numel()) for shape in shapes.values()]
    if not sizes:
        return {}
    flat = vmap(lambda number: normal(number, _STREAM, (sum(sizes),), torch.float32))(numbers)
    parts = torch.split(flat, sizes, 1)
    return {n: scale[n] * part.view(-1, *shapes[n]) for n, part in zip(shapes, parts, strict=True)}


class FreshEmbedding:
    """The run's network without a head, whose weights are drawn anew in each lifetime.

    Matrices and filters are normal with a deviation of one over the root of the inputs of a unit, biases are 0, and other
    vectors (of norms) are as the network has them. ``tabular`` puts a one-hot vector of the observation's number before it.

    Args:
        model: the network.
        tabular: whether to number observations, for environments that count them.

    Raises:
        UserError: the network does not say how wide its features are.
    """

    def __init__(self, model: nn.Module, tabular: bool) -> None:
        features = as_model(model).features
        if features is None:
            raise UserError("model: an agent needs the width of what the network returns, as attribute `features`")
        self.model = model
        self.tabular = tabular
        self.features = features

    def width(self, environment: Environment) -> int:
        """Number of features in these environments.

        Raises:
            UserError: observations are to be numbered, but are not counted, or the network is not ``cells``.
        """
        if not self.tabular:
            return self.features
        if environment.places is None:
            raise UserError(
                f"algorithm.tabular=true: observations of {environment.title} are not counted; take algorithm.tabular=false"
            )
        if next(self.model.parameters(), None) is not None:
            raise UserError("algorithm.tabular=true: a table needs no network; take model=cells")
        return environment.places

    def start(self, numbers: Tensor) -> dict[str, Tensor]:
        """Draw the weights of lifetimes, (tasks, ...) each."""
        drawn = {n: p for n, p in self.model.named_parameters() if p.dim() > 1}
        shapes = {name: tuple(value.shape) for name, value in drawn.items()}
        weights = drawn_weights(numbers, shapes, {n: float(v[0].numel()) ** -0.5 for n, v in drawn.items()})
        for name, value in self.model.named_parameters():
            if name not in weights:
                start = torch.zeros_like(value) if name.endswith("bias") else value.detach()
                weights[name] = start.expand(len(numbers), *value.shape).clone()
        return weights

    def __call__(self, params: Params, environment: Environment, observations: Tensor) -> Tensor:
        """Features (tasks, examples, features) of observations (tasks, examples, *input)."""
        tasks, examples = observations.shape[:2]
        flat = observations.flatten(0, 1)
        if self.tabular:
            places = environment.places
            assert places is not None
            return F.one_hot(environment.place(flat), places).to(flat.dtype).view(tasks, examples, places)
        names = [name for name, _ in self.model.named_parameters()]
        if not names:
            features: Tensor = self.model(flat).view(tasks, examples, -1)
            return features
        own = {name: params[name] for name in names}
        embedded: Tensor = vmap(lambda p, x: functional_call(self.model, p, (x,)))(own, observations)
        return embedded


class LinearAgent:
    """An embedding and linear heads that start at 0: unnormalized log-probabilities of actions, and of a prediction vector.

    With ``tabular``, policy and predictions are tables (Oh et al. 2020, section 4.1). The prediction's entries mean what the
    learned objective makes them mean.

    Args:
        embedding: of observations.
        actions: number of actions.
        predictions: entries of the prediction vector.
    """

    def __init__(self, embedding: FreshEmbedding, actions: int, predictions: int) -> None:
        self.embedding = embedding
        self.actions = actions
        self.predictions = predictions

    def start(self, environment: Environment, numbers: Tensor) -> dict[str, Tensor]:
        """Parameters of lifetimes at their start, (tasks, ...) each.

        Raises:
            UserError: the agent cannot act in these environments.
        """
        width, outputs = self.embedding.width(environment), self.actions + self.predictions
        heads = torch.zeros(len(numbers), width, outputs, device=numbers.device)
        return self.embedding.start(numbers) | {"heads.weight": heads, "heads.bias": heads[:, :1].clone()}

    def outputs(self, params: Params, environment: Environment, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of actions (tasks, examples, actions) and predictions (tasks, examples, predictions)."""
        features = self.embedding(params, environment, observations)
        both = torch.baddbmm(params["heads.bias"], features.to(params["heads.bias"].dtype), params["heads.weight"])
        return both[..., : self.actions], both[..., self.actions :]
