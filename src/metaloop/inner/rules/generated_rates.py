"""Learning rates and weight decays that a network generates anew in every inner step."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.learned_rates import checked_steps
from metaloop.inner.rules.rule import InnerRule, checked_rate
from metaloop.types import Params


class GeneratedRates(InnerRule):
    """ALFA: ``p_l <- beta_l p_l - alpha_l g_l``, both generated anew at each step (Baik et al. 2020, section 3.2).

    A network maps the mean gradient and the mean value of each of L tensors, 2L numbers, to 2L numbers: ``s_l`` and ``d_l``.
    With a learned scale for every tensor ``l`` and step ``t``, ``alpha_l = A[t, l] s_l`` and ``beta_l = 1 - D[t, l] d_l``.
    The network's three layers of units (input, hidden, output) are 2L wide with a ReLU after the hidden one, as in the
    authors' code.

    Deviation: the last layer starts so that ``s = 1`` and ``d = 0``, hence ``alpha = lr`` and ``beta = 1`` and training starts
    exactly as MAML; the authors start it at random.

    Args:
        params: the adapted parameters.
        lr: initial ``A``, above 0.
        decay: initial ``D`` as a multiple of ``lr``, above 0 (5e-4 in the authors' code).
        steps: number of steps with their own scales; later steps use those of the last.
    """

    def __init__(self, params: Params, lr: float, decay: float, steps: int) -> None:
        super().__init__(params)
        if not decay > 0:
            raise UserError(f"algorithm.rule.decay={decay}: above 0")
        self.steps = checked_steps(steps)
        tensors, dtype = len(params), next(iter(params.values())).dtype
        self.rates = nn.Parameter(torch.full((self.steps, tensors), checked_rate(lr), dtype=dtype))
        self.decays = nn.Parameter(torch.full((self.steps, tensors), lr * decay, dtype=dtype))
        self.hidden = nn.Linear(2 * tensors, 2 * tensors, dtype=dtype)
        self.last = nn.Linear(2 * tensors, 2 * tensors, dtype=dtype)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.copy_(torch.cat([torch.ones(tensors), torch.zeros(tensors)]))

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        means = torch.stack([gradients[name].mean() for name in params] + [value.mean() for value in params.values()])
        generated = self.last(torch.relu(self.hidden(means)))
        at = min(step, self.steps - 1)
        alphas = self.rates[at] * generated[: len(params)]
        betas = 1 - self.decays[at] * generated[len(params) :]
        return {name: betas[i] * value - alphas[i] * gradients[name] for i, (name, value) in enumerate(params.items())}, state
