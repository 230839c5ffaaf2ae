"""``metaloop new``: write the skeleton of a learner into the current folder, with a config and a test that pass as they are."""

import keyword
from pathlib import Path

from metaloop.errors import UserError

KINDS = ("learner",)
_MODULE = '''\
"""A learner of one's own: change what `_logits` computes, and the docstrings with it."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop import Learner
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.learners.learner import Predictor, Requirements
from metaloop.problems.task_loss import TaskLoss, restricted
from metaloop.types import Examples, Inputs, OuterLoss, Tasks


class {name}(Learner):
    """Each query goes to the class whose mean embedding points its way.

    Args:
        model: the embedding, without a head; given by the program.
        loss: of one task; given by the program.
        over_tasks: how per-task functions are run; all tasks are one batch here.
        scale: of the logits; learned.
    """

    requires: ClassVar[Requirements] = Requirements(head=False)

    def __init__(self, model: nn.Module, loss: TaskLoss, over_tasks: OverTasks, scale: float) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.over_tasks = over_tasks
        self.scale = nn.Parameter(torch.tensor(scale))

    @property
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries."""
        return False

    def check(self, ways: int) -> None:
        """Raise a UserError if the learner cannot handle this number of classes; any will do here."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """Adapt to support sets: one go, so there is one iterate."""
        return Predictor([lambda x, mask: self._logits(support, x)])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """The mean over tasks of the query loss; its gradient trains the learner."""
        logits = self._logits(tasks.support, tasks.query.x)
        losses = [self.loss(one, tasks.query.map(lambda t, i=i: t[i])) for i, one in enumerate(logits)]
        each = torch.stack(losses)
        return OuterLoss(each.mean(), logits.detach(), each[:, None].detach())

    def _logits(self, support: Examples, x: Inputs) -> Tensor:
        belongs = F.one_hot(support.y, support.ways).bool()  # (tasks, examples, ways)
        if support.mask is not None:  # padding and absent classes count nowhere
            belongs = belongs & support.mask[..., None]
        members, features = belongs.to(self.scale.dtype), self._embed(support.x)
        means = members.transpose(1, 2) @ features / members.sum(1).clamp(min=1)[..., None]
        logits = self.scale * F.normalize(self._embed(x), dim=-1) @ F.normalize(means, dim=-1).transpose(1, 2)
        return restricted(logits, belongs.any(1)[:, None])

    def _embed(self, x: Tensor) -> Tensor:
        return self.model(x.flatten(0, 1)).unflatten(0, x.shape[:2])
'''
_CONFIG = """\
# a learner of one's own, by class means
defaults:
  - over_tasks: loop
  - _self_

_target_: {package}.learner.{name}
scale: 10.0
"""
_TEST = '''\
"""The learner keeps the contract: padding, permutations, leaks, absent classes, derivatives, vmap, state."""

from metaloop.inner.execution.over_tasks import Loop
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.testing import check_learner
from {package}.learner import {name}


def test_{package}_keeps_the_contract() -> None:
    model = MLP(input_shape=(5,), outputs=None, hidden=[8])
    check_learner({name}(model, CrossEntropy(), Loop(), scale=5.0), (5,))
'''


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Write package, config and test of a new learner.

    Args:
        kind: what to write, one of :data:`KINDS`.
        name: name of the package and of its option, such as ``my_learner``; the class is ``MyLearner``.
        folder: folder to write into.

    Returns:
        The paths that were written.

    Raises:
        UserError: the kind is unknown, the name is none that Python can import, or something of that name is there.
    """
    if kind not in KINDS:
        raise UserError(f"new {kind}: kinds: {', '.join(KINDS)}; docs/adding.md shows models, data sets and comparisons")
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name in ("metaloop", "conf", "test"):
        raise UserError(f"new learner {name}: a name of small letters, digits and underscores, such as my_learner")
    words = {"package": name, "name": "".join(part.capitalize() for part in name.split("_"))}
    texts = {
        Path(name, "__init__.py"): "",
        Path(name, "learner.py"): _MODULE.format(**words),
        Path("conf", "algorithm", f"{name}.yaml"): _CONFIG.format(**words),
        Path(f"test_{name}.py"): _TEST.format(**words),
    }
    for path in (Path(name), *texts):
        if (folder / path).exists():
            raise UserError(f"new learner {name}: {path} exists already; choose another name")
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return list(texts)
