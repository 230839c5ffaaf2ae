"""Objects passed between processes, their tensors in shared memory."""

import io
import mmap
import os
import pickle
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

_ALIGN = 64  # bytes, a cache line
_GROW = 2**20  # bytes, the smallest size


class Arena:
    """A growing piece of shared memory behind a file descriptor. It disappears with the last process that has it open.

    Args:
        descriptor: file descriptor of an arena that another process made; None for a new arena.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _anonymous() if descriptor is None else descriptor
        self._memory: mmap.mmap | None = None
        self._used = 0

    def dumps(self, value: Any) -> bytes:
        """Pickle ``value``, with its tensors in the arena, where the next call overwrites them."""
        self._used = 0
        sizes = io.BytesIO()
        pickler = _Pickler(sizes, self)
        pickler.dump(value)
        self._hold(self._used)
        for offset, tensor in pickler.tensors:
            _view(self._memory, offset, tensor.dtype, tensor.shape).copy_(tensor)
        return sizes.getvalue()

    def loads(self, pickled: bytes) -> Any:
        """Return the value that :meth:`dumps` in the other process pickled; its tensors are views of the arena."""
        self._hold(os.fstat(self.descriptor).st_size)
        return _Unpickler(io.BytesIO(pickled), self).load()

    def reserve(self, tensor: Tensor) -> int:
        """Reserve a place for ``tensor`` and return its offset in bytes."""
        offset = self._used
        self._used += -(-tensor.numel() * tensor.element_size() // _ALIGN) * _ALIGN
        return offset

    def view(self, offset: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
        """Return the tensor at an offset in bytes."""
        return _view(self._memory, offset, dtype, shape)

    def _hold(self, size: int) -> None:
        if self._memory is None or len(self._memory) < size:
            size = max(size, os.fstat(self.descriptor).st_size, _GROW)
            os.truncate(self.descriptor, size)
            self._memory = mmap.mmap(self.descriptor, size)


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metaloop")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _view(memory: mmap.mmap | None, offset: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    assert memory is not None
    count = shape.numel()
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).view(shape)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, arena: Arena) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[tuple[int, Tensor]] = []
        self._arena = arena
        self._known: dict[int, tuple[Any, ...]] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self._known:
            kind = nn.Parameter if isinstance(value, nn.Parameter) else Tensor
            tensor = value.detach()
            offset = self._arena.reserve(tensor)
            self.tensors.append((offset, tensor))  # also keeps it alive, so that no other object gets its id
            self._known[id(value)] = (kind, offset, value.dtype, value.shape, value.requires_grad)
        return self._known[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arena: Arena) -> None:
        super().__init__(file)
        self._arena = arena

    def persistent_load(self, pid: tuple[Any, ...]) -> Tensor:
        kind, offset, dtype, shape, requires_grad = pid
        tensor = self._arena.view(offset, dtype, shape)
        return nn.Parameter(tensor, requires_grad) if kind is nn.Parameter else tensor.requires_grad_(requires_grad)
