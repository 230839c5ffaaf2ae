"""A task of a gradient-based learner: its start, losses and answers."""

from typing import Any

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.head_init import HeadInit
from metaloop.inner.module_call import ModuleCall
from metaloop.inner.problem import MODEL, TaskModel
from metaloop.inner.selection.adapted import HEAD, Adapted
from metaloop.learners.gradient.augmentation import NoAugmentation, SupportAugmentation
from metaloop.learners.gradient.functional_model import FunctionalModel, HeadAlone
from metaloop.learners.gradient.step_norms import StepNorms, last_step, with_step_norms
from metaloop.learners.gradient.support_loss import SupportLoss
from metaloop.learners.gradient.support_order import SupportOrder
from metaloop.models.norm import OF_EXAMPLES, norm_modes, norm_parameters
from metaloop.problems.task_loss import TaskLoss, without_absent_classes
from metaloop.types import Examples, Inputs, Params

SUPPORT_LOSS, AUGMENTATION = "support_loss.", "augmentation."  # prefixes of their parameters among the meta-parameters


class GradientTask(TaskModel):
    """The start, losses and answers of a task, as functions of the meta-parameters.

    Args:
        model: the network.
        adapted: names of the parameters that the inner loop changes.
        head_init: how the head starts in each task.
        loss: loss of one task.
        support_loss: reduces the losses of the support examples to the scalar that an inner step minimises.
        augmentation: changes the support inputs in each inner step.
        inner_batch: number of support examples in each inner step; None for all.
        inner_order: order in which inner batches go through the support examples.
        step_norms: scale and offset of norm layers for each inner step; None for those of the model.
    """

    def __init__(
        self,
        model: FunctionalModel,
        adapted: tuple[str, ...],
        head_init: HeadInit,
        loss: TaskLoss,
        support_loss: SupportLoss,
        augmentation: SupportAugmentation,
        inner_batch: int | None,
        inner_order: SupportOrder,
        step_norms: StepNorms | None = None,
    ) -> None:
        self.model = model
        self.adapted = adapted
        self.head_init = head_init
        self.loss = loss
        self._support_loss = support_loss
        self.augmentation = augmentation
        self.inner_batch = inner_batch
        self.inner_order = inner_order
        self.step_norms = step_norms
        self._augment, self._reduce = _Part(augmentation, AUGMENTATION), _Part(support_loss, SUPPORT_LOSS)
        # Parameters that start from a fixed value are no meta-parameters.
        self._fixed = {n: p for n in adapted if not (p := model.module.get_parameter(n)).requires_grad}

    def start(self, meta: Params, support: Examples) -> Params:
        """See :meth:`TaskModel.start`."""
        params = self._learned(meta)

        def features(at: Params) -> Tensor:
            return self.model.features(meta, with_step_norms(self.step_norms, meta, at, 0), support.x, support.mask)

        return self.head_init.start(params, support, features)

    def _learned(self, meta: Params) -> Params:
        """Return the adapted parameters' values before adaptation and before ``head_init``."""
        like = next(iter(meta.values()))
        return {n: self._fixed[n].to(like) if n in self._fixed else meta[MODEL + n] for n in self.adapted}

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """See :meth:`TaskModel.support_loss`."""
        batch = self._batch(support, step)
        x = self._augment(meta, (batch, step))
        logits = self.model.outputs(meta, with_step_norms(self.step_norms, meta, params, step), x, batch.mask)
        losses = (self._support_loss.of or self.loss).each(without_absent_classes(logits, support), batch)
        loss: Tensor = self._reduce(meta, (losses, batch.mask))
        return loss

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        """See :meth:`TaskModel.query_loss`."""
        logits = self.answer(meta, params, support, query.x, query.mask, taken)
        return self.loss(logits, query), logits

    def answer(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None, taken: int) -> Tensor:
        """Answer one task's queries ``x`` (queries, *input) after ``taken`` inner steps: (queries, *output)."""
        params = with_step_norms(self.step_norms, meta, params, last_step(taken))
        return without_absent_classes(self.model.query_outputs(meta, params, support, x, mask), support)

    def on_features(self) -> "GradientTask | None":
        """Return the same task on the head's inputs as ``x``; None if an inner step may change them."""
        model, head = self.model.module, self.model.contract.linear_head
        if head is None or self.step_norms is not None or not all(name.startswith(HEAD) for name in self.adapted):
            return None
        shared = norm_modes(model).intersection(OF_EXAMPLES)  # then features depend on the examples of a batch
        if model.training or (shared and self.inner_batch is not None) or not isinstance(self.augmentation, NoAugmentation):
            return None
        return self._changed(FunctionalModel(HeadAlone(head)), self.inner_batch)

    def in_batches(self, inner_batch: int) -> "GradientTask":
        """Return the same task with inner batches of another size."""
        return self._changed(self.model, inner_batch)

    def _changed(self, model: FunctionalModel, inner_batch: int | None) -> "GradientTask":
        losses = self.loss, self._support_loss, self.augmentation
        return GradientTask(model, self.adapted, self.head_init, *losses, inner_batch, self.inner_order, self.step_norms)

    def features(self, meta: Params, support: Examples) -> Tensor:
        """Compute the head's inputs for one task's support set before adaptation: (examples, features)."""
        return self.model.features(meta, self._learned(meta), support.x, support.mask)

    def query_features(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Compute the head's inputs for one task's queries before adaptation: (queries, features)."""
        return self.model.query_features(meta, self._learned(meta), support, x, mask)

    def _batch(self, support: Examples, step: int) -> Examples:
        """Select the support examples of one step: all, or the next ``inner_batch``."""
        if self.inner_batch is None or self.inner_batch >= len(support.y):
            return support
        rows = self.inner_order.rows(support, self.inner_batch, step)
        return support.map(lambda tensor: tensor[rows])


class _Part:
    """A module whose learned parameters are read from the meta-parameters, where their names have a prefix."""

    def __init__(self, module: nn.Module, prefix: str) -> None:
        self._names = {name: prefix + name for name, value in module.named_parameters() if value.requires_grad}
        self._call = ModuleCall(module)

    def __call__(self, meta: Params, arguments: tuple[Any, ...]) -> Any:
        """Call the module with these arguments."""
        return self._call({name: meta[qualified] for name, qualified in self._names.items()}, arguments)


def adapted_names(adapted: Adapted, model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that adapt: those chosen, without those of norm layers if these are left out.

    Raises:
        UserError: nothing is left.
    """
    names = adapted.names(model)
    norms = () if adapted.norms else norm_parameters(model)
    rest = tuple(name for name in names if name not in norms)
    if not rest:
        raise UserError("algorithm.adapted.norms=false: norm layers are all that would adapt; set it to true")
    return rest


def check_counts(**counts: int | None) -> None:
    """Raise a UserError unless each count is at least 1, or None; its key is that under ``algorithm``."""
    for key, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"algorithm.{key}={value}: at least 1")
