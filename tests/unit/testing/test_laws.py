"""The contracts that users run: what is right passes, and each way to be wrong is told by its law."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.data.distribution import SPLITS, Dataset
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.inner.execution.over_tasks import Loop
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import FirstOrder, MetaGradient, Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.learner import Learner
from metaloop.learners.metric.comparison import Comparison, belongs, class_means, squared_distances
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError
from metaloop.testing import BrokenLaw, check_comparison, check_dataset, check_learner, check_model
from metaloop.types import EpisodeSpec, Examples, Tasks


class Means(Comparison):
    """Minus squared distances to class means; a subclass breaks one law."""

    def means(self, support: Tensor, labels: Examples) -> Tensor:
        return class_means(support, labels)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        return -squared_distances(query, self.means(support, labels))


class WithoutMasks(Means):
    def means(self, support: Tensor, labels: Examples) -> Tensor:
        return class_means(support, Examples(labels.x, labels.y, None, labels.ways))


class WithOtherQueries(Means):
    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        return -squared_distances(query - query.mean(0), self.means(support, labels))


class LastOfAClass(Means):
    def means(self, support: Tensor, labels: Examples) -> Tensor:
        places = torch.arange(len(labels.y)) * belongs(labels)
        return support[places.argmax(1)]


class FirstClassFavoured(Means):
    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        first = F.one_hot(torch.zeros((), dtype=torch.int64), labels.ways)
        return first - squared_distances(query, self.means(support, labels))


class Constant(Means):
    """Hides a part of its gradient."""

    def means(self, support: Tensor, labels: Examples) -> Tensor:
        return class_means(support.detach(), labels)


def test_correct_classes_pass() -> None:
    check_comparison(Means())
    check_learner(maml(Unrolled()), (5,))
    check_learner(maml(FirstOrder()), (5,), exact=False)
    check_learner(maml(Unrolled(), targets=2), (5,), ways=1, targets=2)
    check_model(lambda shape, outputs: MLP(shape, outputs, hidden=[6], norm="batch"), (5,))
    check_dataset(Numbers(), EpisodeSpec(3, 2, 2))


@pytest.mark.parametrize(
    ("comparison", "law"),
    [
        (WithoutMasks, "the values in padding must change no answer.* numbers differ, by up to"),
        (WithOtherQueries, "other queries must change no answer, since transductive is False"),
        (LastOfAClass, "the order of the support set must change no answer"),
        (FirstClassFavoured, "renumbering the classes must permute the logits"),
        (Constant, "must give the derivative of the meta-loss.* the gradient says .*, finite differences say"),
    ],
)
def test_the_law_that_a_comparison_breaks_is_named(comparison: type[Comparison], law: str) -> None:
    with pytest.raises(BrokenLaw, match=law):
        check_comparison(comparison())


def maml(meta_gradient: MetaGradient, targets: int | None = None) -> GradientLearner:
    torch.manual_seed(0)
    model = MLP((5,), targets or 3, hidden=[6], norm="layer")
    loss = MeanSquaredError() if targets else CrossEntropy()
    rule = lambda params: GradientDescent(params, lr=0.1)  # noqa: E731
    return GradientLearner(model, loss, All(), rule, meta_gradient, LastStep(), Learned(), Loop(), steps=2)


class Forgets(MetricLearner):
    """Learns something that is no parameter."""

    def __init__(self) -> None:
        super().__init__(MLP((5,), None, hidden=[6]), CrossEntropy(), Means(), Loop())
        self.scales = [1.0]

    def set_extra_state(self, state: dict[str, str]) -> None:
        self.scales = [2.0]

    def _answers(self, *arguments: object) -> Tensor:
        return self.scales[0] * super()._answers(*arguments)  # type: ignore[arg-type]


class Peeks(MetricLearner):
    """Its answers in meta-training know the labels."""

    def meta_loss(self, tasks: Tasks):
        outcome = super().meta_loss(tasks)
        return type(outcome)(outcome.loss, outcome.query_logits + F.one_hot(tasks.query.y, tasks.query.ways), outcome.per_step)


class Mixes(MetricLearner):
    """Its answers depend on the other tasks."""

    def adapt(self, support: Examples, unlabelled: object = None):
        mean = support.x.mean((0, 1))  # type: ignore[union-attr]
        return super().adapt(Examples(support.x - mean, support.y, support.mask, support.ways, support.number))  # type: ignore[operator]


def metric(kind: type[MetricLearner]) -> Learner:
    return kind(MLP((5,), None, hidden=[6]), CrossEntropy(), Means(), Loop())


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (lambda: maml(FirstOrder()), r"derivative of the meta-loss \(exact=False"),
        (Forgets, "loads the state dict must answer as before"),
        (lambda: metric(Peeks), "query labels must not change the answers"),
        (lambda: metric(Mixes), "must not depend on the tasks beside it"),
    ],
)
def test_the_law_that_a_learner_breaks_is_named(build: Callable[[], Learner], law: str) -> None:
    with pytest.raises(BrokenLaw, match=law):
        check_learner(build(), (5,))


class Net(nn.Module):
    """A correct model; each subclass breaks a law."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__()
        self.body = nn.Linear(*input_shape, 6)
        self.head = nn.Linear(6, outputs) if outputs is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


class Counts(Net):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().forward(x)


class Centres(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class NativeNorm(Net):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.body(x))))


class NativeBatchNorm(NativeNorm):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)


class Detaches(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)) * self.body(x).detach())


class Headless(Net):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.last, self.head = self.head, None

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.body(x)))


@pytest.mark.parametrize(
    ("model", "law"),
    [
        (Counts, r"evaluation mode must change no parameter or buffer \(calls\)"),
        (Centres, r"other examples must change no answer; its norms \(none\)"),
        (NativeNorm, "vmap must give the second derivatives of a loop"),
        (NativeBatchNorm, "forward must take `weight`"),
        (Detaches, "first derivatives must be right"),
        (Headless, "the last layer must be the submodule `head`"),
    ],
)
def test_the_law_that_a_model_breaks_is_named(model: type[Net], law: str) -> None:
    check_model(Net, (5,))
    with pytest.raises(BrokenLaw, match=law):
        check_model(model, (5,))


class Numbers(Dataset):
    """A correct data set of six classes in each split; each subclass breaks a law."""

    names = SPLITS

    def __init__(self) -> None:
        self._splits = {split: self.pool(number, split) for number, split in enumerate(SPLITS)}

    def pool(self, number: int, split: str) -> ClassPool:
        x = torch.randn(24, 4, generator=torch.Generator().manual_seed(number))
        return ClassPool(x, [4] * 6, [f"{self.names[number]} {i}" for i in range(6)], split=split)

    def split(self, name: str) -> ClassPool:
        return self._splits[name]


class Anew(Numbers):
    def split(self, name: str) -> ClassPool:
        return self.pool(SPLITS.index(name), name)


class SharedClasses(Numbers):
    names = ("a", "b", "a")


class Repeated(Numbers):
    def pool(self, number: int, split: str) -> ClassPool:
        pool = super().pool(number, split)
        assert isinstance(pool.inputs, Tensor)
        return ClassPool(pool.inputs[::2].repeat_interleave(2, 0), [4] * 6, pool.names, split=split)


class OneForAll(Numbers):
    def pool(self, number: int, split: str) -> ClassPool:
        return ClassPool(super().pool(0, split).inputs, [4] * 6, super().pool(number, split).names, split=split)


class RandomPool(ClassPool):
    """Draws from the global generator."""

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        return super().draw(stream, torch.randint(1000, numbers.shape), spec)


class Random(Numbers):
    def pool(self, number: int, split: str) -> ClassPool:
        pool = super().pool(number, split)
        return RandomPool(pool.inputs, [4] * 6, pool.names, split=split)


@pytest.mark.parametrize(
    ("dataset", "law"),
    [
        (Anew, r"split\('train'\) must return the same object each time"),
        (SharedClasses, r"6 classes are in test and in train, such as \['a 0'"),
        (Repeated, "are in the support set and among the queries"),
        (OneForAll, "examples in the first 16 episodes of .* are in those of"),
        (Random, "an episode must be a function of its number alone"),
    ],
)
def test_the_law_that_a_data_set_breaks_is_named(dataset: type[Dataset], law: str) -> None:
    with pytest.raises(BrokenLaw, match=law):
        check_dataset(dataset(), EpisodeSpec(3, 2, 2))
