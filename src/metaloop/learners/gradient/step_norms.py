"""Scale and offset of norm layers for each inner step."""

from torch import nn

from metaloop.errors import UserError
from metaloop.inner.rules.learned_rates import key_of
from metaloop.models.norm import norm_parameters
from metaloop.types import Params

STEP_NORMS = "step_norms."  # prefix among the meta-parameters


class StepNorms(nn.Module):
    """Scale and offset of each norm layer for each inner step (BNWB of MAML++, Antoniou et al. 2019, section 4).

    Inner step t, from 0, and the query loss after it use the t-th of them; later steps, as at test, use the last. The outer
    loop learns them in the place of the model's own, which keep their initial numbers. The authors also keep running
    statistics for each step, but their code normalizes with the batch at hand in meta-training and test, so that these
    change no answer; here they do not exist.

    Args:
        model: the network, whose norm layers' own parameters are frozen.
        adapted: names of the parameters that adapt, which must not be among them.
        steps: number of inner steps with their own scale and offset.

    Raises:
        UserError: the model has no norm layer with parameters, or they adapt.
    """

    def __init__(self, model: nn.Module, adapted: tuple[str, ...], steps: int) -> None:
        super().__init__()
        self._names = norm_parameters(model)
        if not self._names:
            raise UserError(
                f"algorithm.norm_steps={steps}: the model has no norm layers with scale and offset; take model.norm=batch, or "
                f"algorithm.norm_steps=null"
            )
        if set(self._names) & set(adapted):
            raise UserError(
                f"algorithm.norm_steps={steps}: norms of each step do not adapt; take algorithm.adapted.norms=false"
            )
        self._steps = steps
        self.values = nn.ParameterDict()
        for name in self._names:
            own = model.get_parameter(name).requires_grad_(False)
            self.values[key_of(name)] = nn.Parameter(own.detach().expand(steps, *own.shape).clone())

    def at(self, meta: Params, step: int) -> Params:
        """Return the parameters of inner step ``step``, by their names in the model, from the meta-parameters."""
        row = min(step, self._steps - 1)
        return {name: meta[f"{STEP_NORMS}values.{key_of(name)}"][row] for name in self._names}


def with_step_norms(norms: StepNorms | None, meta: Params, params: Params, step: int) -> Params:
    """Return ``params`` with the norm layers' parameters of inner step ``step``, if there are such."""
    return params if norms is None else {**params, **norms.at(meta, step)}


def last_step(taken: int) -> int:
    """Return the number of the last of so many steps; before the first, that of the first."""
    return max(taken - 1, 0)
