"""Inner surrogates: functions of episodes whose gradient at the policy that played them estimates the policy gradient.

They differ in their second derivative, which the meta-gradient needs. Each is a sum of gains of the steps: functions of the
logarithm ``l`` of an action's probability over that with which it was drawn, and of its advantage ``A``, a constant.
"""

from abc import ABC, abstractmethod

from torch import Tensor


class InnerSurrogate(ABC):
    """A surrogate of the expected return of a policy."""

    @abstractmethod
    def gains(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """Return the gains of the steps, whose sum over an episode is its surrogate.

        Args:
            log_ratio: (episodes, steps); 0 after the end of an episode.
            advantages: (episodes, steps); 0 after the end of an episode.
        """


class DiCE(InnerSurrogate):
    """``sum_t (exp(l_1 + ... + l_t) - exp(l_1 + ... + l_{t-1})) A_t`` (Foerster et al. 2018, with advantages).

    Derivatives of every order are unbiased. With ``A_t`` the reward that is left it is the authors' objective but for a
    constant (sum by parts). Advantages enter as in Loaded DiCE (Farquhar et al. 2019), with the baseline of Mao et al. 2019.
    The second derivative has terms for all pairs of steps, so its variance grows with the length of episodes.
    """

    def gains(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """See :meth:`InnerSurrogate.gains`."""
        total = log_ratio.cumsum(-1)
        return (total.exp() - (total - log_ratio).exp()) * advantages


class LVC(InnerSurrogate):
    """``sum_t exp(l_t) A_t``, the low variance curvature surrogate (Rothfuss et al. 2019, section 5).

    Its second derivative leaves out ``sum_t (d log p_t) (d Q_t)' `` and its transpose: the part through which a changed policy
    changes what an action is worth later (section 5). It is exact for episodes of one step.
    """

    def gains(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """See :meth:`InnerSurrogate.gains`."""
        return log_ratio.exp() * advantages


class LogLikelihood(InnerSurrogate):
    """``sum_t l_t A_t``: REINFORCE (Williams 1992), as in the code of Finn et al. 2017.

    Its gradient is right, but its second derivative lacks that of the distribution of the episodes (Al-Shedivat et al. 2018;
    Foerster et al. 2018, section 3.1): for comparison, and enough for algorithm/meta_gradient=first_order.
    """

    def gains(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """See :meth:`InnerSurrogate.gains`."""
        return log_ratio * advantages
