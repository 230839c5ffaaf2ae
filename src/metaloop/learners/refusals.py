"""Turn torch's errors about networks without second derivatives, or without vmap, into errors that name the fix."""

from collections.abc import Iterator
from contextlib import contextmanager

from metaloop.errors import UserError

_VMAP = "vmap cannot run this network ({reason}); take algorithm/over_tasks=loop"
_FIXES = {  # by a part of torch's message
    "_scaled_dot_product": "fused attention has no second derivative ({reason}); take a network with eager attention, or "
    "algorithm/meta_gradient=first_order",
    "double backward": "this network cannot be differentiated twice ({reason}); leave out torch.compile, or take "
    "algorithm/meta_gradient=first_order",
    "is not implemented": "this network cannot be differentiated twice ({reason}); take algorithm/meta_gradient=first_order",
    "inplace operation": "this network changes tensors in place, which autograd cannot undo ({reason}); let it make new ones",
    "vmap:": _VMAP,  # branches on values, shapes that depend on values, random numbers, changes in place
    "Batching rule": _VMAP,
}


@contextmanager
def errors_name_the_fix() -> Iterator[None]:
    """Replace errors of torch that a config choice avoids by errors that name this choice.

    Raises:
        UserError: the network has no second derivative, or cannot be called under vmap.
    """
    try:
        yield
    except RuntimeError as error:
        message = " ".join(str(error).split())
        fix = next((text for mark, text in _FIXES.items() if mark in message), None)
        if fix is None:
            raise
        raise UserError(fix.format(reason=message[:200])) from error
