"""Torch's norm layers with forward passes that are right under ``torch.func.vmap`` and change no buffer.

Through torch's affine norms, vmap gives wrong second-order gradients without an error. A tracked batch norm moves its running
averages at each call, so they would depend on the order of tasks and on calls that only time or check.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.models.norm import LayerNorm, RunningAverages, observe_batch


class _OwnBatchNorm(RunningAverages, nn.modules.batchnorm._BatchNorm):
    """A batch norm whose running averages move within :func:`metaloop.models.norm.observing` only."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (examples, channels, *places) with the batch's statistics or the running averages, as torch does."""
        self._check_input_dim(x)  # type: ignore[no-untyped-call]  # torch declares no types here
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if self.training or self.running_mean is None or self.running_var is None:
            if self.observes:
                observe_batch(self, x)
            y = F.batch_norm(x, None, None, None, None, True, 0.1, self.eps)
        else:
            y = (x - self.running_mean.view(shape)) * torch.rsqrt(self.running_var.view(shape) + self.eps)
        return _affine(y, self.weight, self.bias, shape)


class BatchNorm1d(_OwnBatchNorm, nn.BatchNorm1d):
    """Batch norm of (examples, channels) or (examples, channels, places)."""


class BatchNorm2d(_OwnBatchNorm, nn.BatchNorm2d):
    """Batch norm of (examples, channels, height, width)."""


class BatchNorm3d(_OwnBatchNorm, nn.BatchNorm3d):
    """Batch norm of (examples, channels, depth, height, width)."""


class GroupNorm(nn.GroupNorm):
    """Group norm whose affine map is applied by hand."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (examples, channels, *places)."""
        y = F.group_norm(x, self.num_groups, None, None, self.eps)
        return _affine(y, self.weight, self.bias, (1, -1) + (1,) * (x.ndim - 2))


class _OwnInstanceNorm(nn.modules.instancenorm._InstanceNorm):
    """Instance norm without running averages, whose affine map is applied by hand."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each channel of each example of ``x`` (examples, channels, *places)."""
        self._check_input_dim(x)  # type: ignore[no-untyped-call]  # torch declares no types here
        y = F.group_norm(x, self.num_features, None, None, self.eps)
        return _affine(y, self.weight, self.bias, (1, -1) + (1,) * (x.ndim - 2))


class InstanceNorm1d(_OwnInstanceNorm, nn.InstanceNorm1d):
    """Instance norm of (examples, channels, places)."""


class InstanceNorm2d(_OwnInstanceNorm, nn.InstanceNorm2d):
    """Instance norm of (examples, channels, height, width)."""


_OWN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.GroupNorm: GroupNorm,
    nn.InstanceNorm1d: InstanceNorm1d,
    nn.InstanceNorm2d: InstanceNorm2d,
    nn.LayerNorm: LayerNorm,
}


def with_own_norms(model: nn.Module) -> nn.Module:
    """Give torch's norm layers of ``model`` the forward passes of this module, in place, and return the model.

    Only the layers' classes are exchanged: parameters, buffers, hooks and names stay, and so do the numbers but for rounding.
    Subclasses keep their own forward pass, and so does an instance norm with running averages.
    """
    for layer in model.modules():
        own = _OWN.get(type(layer))
        tracks = isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats
        if own is not None and not tracks:
            layer.__class__ = own
    return model


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)
