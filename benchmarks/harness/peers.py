"""The peers, used as in their own examples: a Python loop over tasks, and a backward pass per task that frees its graph."""

import contextlib
import copy
import importlib.metadata
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.cases import Batch, Case, plain_model


class Contestant(ABC):
    """A library's meta-gradients and evaluation for one case.

    Attributes:
        model: network with the parameters, which are named as in the plain model.
    """

    model: nn.Module

    @abstractmethod
    def meta_gradient(self, tasks: Batch) -> None:
        """Compute the gradient of the mean query loss after adaptation into the parameters' ``grad``."""

    @abstractmethod
    def answers(self, tasks: Batch) -> Tensor:
        """(tasks, queries, outputs) predictions for the queries after adaptation, without a graph to the start."""

    @abstractmethod
    def to(self, dtype: torch.dtype) -> None:
        """Switch all computations to ``dtype``."""

    @abstractmethod
    def about(self) -> dict[str, str]:
        """Versions, and choices that were made by timing."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Make Adam as a user would."""
        return torch.optim.Adam(self.parameters(), lr=0.001)

    def outer_steps(self, optimizer: torch.optim.Optimizer, tasks: Batch, count: int) -> None:
        """Take outer steps, each a meta-gradient of ``tasks`` and a step of the optimizer."""
        for _ in range(count):
            optimizer.zero_grad()
            self.meta_gradient(tasks)
            optimizer.step()

    def parameters(self) -> list[nn.Parameter]:
        """Parameters that the outer optimizer updates."""
        return list(self.model.parameters())


class Peer(Contestant):
    """Common code of the three peers.

    Args:
        case: the setting.
        weights: initial weights, named as in the plain model.
        device: "cpu" or "cuda".
    """

    package = ""

    def __init__(self, case: Case, weights: dict[str, Tensor], device: str) -> None:
        self.case = case
        self.model = plain_model(case).to(device)
        self.model.load_state_dict(weights)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss, the mean over examples."""
        return F.cross_entropy(outputs, y) if self.case.ways else F.mse_loss(outputs, y)

    def to(self, dtype: torch.dtype) -> None:
        """See `Contestant.to`."""
        self.model.to(dtype)

    def about(self) -> dict[str, str]:
        """See `Contestant.about`."""
        return {name: importlib.metadata.version(name) for name in ("torch", self.package)}

    def _average(self, tasks: int) -> None:
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(tasks)


class Learn2learn(Peer):
    """learn2learn's MAML wrapper: ``clone``, ``adapt``, backward."""

    package = "learn2learn"

    def __init__(self, case: Case, weights: dict[str, Tensor], device: str) -> None:
        super().__init__(case, weights, device)
        with contextlib.suppress(ImportError):  # if installed, it spares the imports of gym and torchvision
            import peer_learn2learn  # noqa: F401
        from learn2learn.algorithms import MAML

        self.maml = MAML(self.model, lr=case.lr)

    def meta_gradient(self, tasks: Batch) -> None:
        """See `Contestant.meta_gradient`."""
        for support_x, support_y, query_x, query_y in _each(tasks):
            learner = self.maml.clone()
            for _ in range(self.case.steps):
                learner.adapt(self.loss(learner(support_x), support_y))
            self.loss(learner(query_x), query_y).backward()
        self._average(len(tasks["support_x"]))

    def answers(self, tasks: Batch) -> Tensor:
        """See `Contestant.answers`; first order, an option that its users have for evaluation."""
        outputs = []
        for support_x, support_y, query_x, _ in _each(tasks):
            learner = self.maml.clone(first_order=True)
            for _ in range(self.case.steps):
                learner.adapt(self.loss(learner(support_x), support_y))
            with torch.no_grad():
                outputs.append(learner(query_x))
        return torch.stack(outputs)


class Higher(Peer):
    """higher's ``innerloop_ctx`` around torch's SGD."""

    package = "higher"

    def __init__(self, case: Case, weights: dict[str, Tensor], device: str) -> None:
        super().__init__(case, weights, device)
        import higher

        self.higher = higher
        self.inner = torch.optim.SGD(self.model.parameters(), lr=case.lr)

    def meta_gradient(self, tasks: Batch) -> None:
        """See `Contestant.meta_gradient`."""
        for support_x, support_y, query_x, query_y in _each(tasks):
            with self.higher.innerloop_ctx(self.model, self.inner, copy_initial_weights=False) as (net, inner):
                for _ in range(self.case.steps):
                    inner.step(self.loss(net(support_x), support_y))
                self.loss(net(query_x), query_y).backward()
        self._average(len(tasks["support_x"]))

    def answers(self, tasks: Batch) -> Tensor:
        """See `Contestant.answers`; ``track_higher_grads=False`` means that no graph is kept."""
        outputs = []
        for support_x, support_y, query_x, _ in _each(tasks):
            with self.higher.innerloop_ctx(self.model, self.inner, track_higher_grads=False) as (net, inner):
                for _ in range(self.case.steps):
                    inner.step(self.loss(net(support_x), support_y))
                with torch.no_grad():
                    outputs.append(net(query_x))
        return torch.stack(outputs)


class Torchopt(Peer):
    """torchopt's ``MetaSGD``; the network's state is saved before each task and restored after it."""

    package = "torchopt"

    def __init__(self, case: Case, weights: dict[str, Tensor], device: str) -> None:
        super().__init__(case, weights, device)
        import torchopt

        self.torchopt = torchopt

    def meta_gradient(self, tasks: Batch) -> None:
        """See `Contestant.meta_gradient`."""
        inner = self.torchopt.MetaSGD(self.model, lr=self.case.lr)
        start = self.torchopt.extract_state_dict(self.model, by="reference", detach_buffers=True)
        inner_start = self.torchopt.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in _each(tasks):
            for _ in range(self.case.steps):
                inner.step(self.loss(self.model(support_x), support_y))
            self.loss(self.model(query_x), query_y).backward()
            self.torchopt.recover_state_dict(self.model, start)
            self.torchopt.recover_state_dict(inner, inner_start)
        self._average(len(tasks["support_x"]))

    def answers(self, tasks: Batch) -> Tensor:
        """See `Contestant.answers`; with a copy of the network and torch's SGD, as it has no first-order adaptation."""
        outputs = []
        for support_x, support_y, query_x, _ in _each(tasks):
            net = copy.deepcopy(self.model)
            inner = torch.optim.SGD(net.parameters(), lr=self.case.lr)
            for _ in range(self.case.steps):
                inner.zero_grad()
                self.loss(net(support_x), support_y).backward()
                inner.step()
            with torch.no_grad():
                outputs.append(net(query_x))
        return torch.stack(outputs)


def _each(tasks: Batch) -> zip:
    return zip(*(tasks[name].unbind(0) for name in ("support_x", "support_y", "query_x", "query_y")), strict=True)


PEERS = {"learn2learn": Learn2learn, "higher": Higher, "torchopt": Torchopt}
