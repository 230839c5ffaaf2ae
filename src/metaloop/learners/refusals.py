"""What torch says of networks that cannot be differentiated twice, or not under vmap, with what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

from metaloop.errors import UserError

_VMAP = "vmap cannot run this network ({reason}); take algorithm/over_tasks=loop"
_FIXES = {  # by what the error says
    "_scaled_dot_product": "fused attention has no second derivative ({reason}); take a network with eager attention, or "
    "algorithm/meta_gradient=first_order",
    "is not implemented": "this network cannot be differentiated twice ({reason}); take algorithm/meta_gradient=first_order",
    "inplace operation": "this network changes tensors in place, which autograd cannot undo ({reason}); let it make new ones",
    "vmap:": _VMAP,  # decisions by values, shapes that depend on them, random numbers, changes in place
    "Batching rule": _VMAP,
}


@contextmanager
def telling_the_fix() -> Iterator[None]:
    """Errors of torch that a choice of the configuration avoids become errors that name it.

    Raises:
        UserError: the network has no second derivative, or cannot be called under vmap.
    """
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        fix = next((text for mark, text in _FIXES.items() if mark in said), None)
        if fix is None:
            raise
        raise UserError(fix.format(reason=said[:200])) from error
