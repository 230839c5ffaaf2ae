"""Lazy imports of torch's compiler, which save a fifth of the time before the first outer step.

Lightning and torch's optimizers import ``torch._dynamo`` and ``torch._inductor``, which take a second of a processor, though
most runs compile nothing. :func:`install` puts the two packages into ``sys.modules`` without running them. The names in
``_LIGHT``, which are all that eager code asks for, do what the package's own do where nothing is compiled. Any other name or
module runs the package; from then on the light names are those of the package.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from types import ModuleType
from typing import Any

_DYNAMO, _INDUCTOR = "torch._dynamo", "torch._inductor"
# Imported by torch.use_deterministic_algorithms, which Lightning calls; they need none of the other modules.
_ALONE = ("torch._inductor.config", "torch._inductor.custom_graph_pass")


def install() -> None:
    """Install the lazy packages. Does nothing if torch's compiler is imported already."""
    import torch

    if _DYNAMO in sys.modules or _INDUCTOR in sys.modules:
        return
    light = {_DYNAMO: _LIGHT, _INDUCTOR: {}}
    packages = {name: package for name in light if (package := _unrun(name, light[name])) is not None}
    if len(packages) < len(light):
        return
    sys.modules.update(packages)
    sys.meta_path.insert(0, _Modules())
    torch._dynamo, torch._inductor = packages[_DYNAMO], packages[_INDUCTOR]


def _unrun(name: str, light: Mapping[str, Any]) -> ModuleType | None:
    """Make the package's module without running it; None if there is no such package."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return None
    package = importlib.util.module_from_spec(spec)
    package.__dict__.update(light, __getattr__=partial(_look_up, package))
    return package


def _look_up(package: ModuleType, name: str) -> Any:
    if name.startswith("__"):  # asked by the import system and by inspection, which need no compiler
        raise AttributeError(name)
    _run(package)
    return getattr(package, name)


def _run(package: ModuleType) -> None:
    """Run the package, once."""
    if package.__dict__.pop("__getattr__", None) is None:
        return
    for name in _LIGHT if package.__name__ == _DYNAMO else ():
        del package.__dict__[name]
    assert package.__spec__ is not None
    assert package.__spec__.loader is not None
    package.__spec__.loader.exec_module(package)


def _is_lazy(name: str) -> bool:
    return name in sys.modules and "__getattr__" in sys.modules[name].__dict__


class _Modules(importlib.abc.MetaPathFinder):
    """Runs a package before the first import of one of its modules, which expect that of each other."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Leave the search to the next finder."""
        package = fullname.rpartition(".")[0] if fullname.count(".") == 2 else ""
        if package in (_DYNAMO, _INDUCTOR) and fullname not in _ALONE:
            _run(sys.modules[package])
        return None


def _graph_break(msg: str = "") -> None:
    """Do nothing, as the function does where nothing is compiled."""


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **named: Any) -> Any:
    """Call ``fn`` as it is; once the compiler is there, call it where that does not look. None makes a decorator."""
    if fn is None:
        return partial(_disable, recursive=recursive, **named)
    disabled: list[Callable[..., Any]] = []

    @wraps(fn)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not disabled and not _is_lazy(_DYNAMO):
            disabled.append(sys.modules[_DYNAMO].disable(fn, recursive, **named))
        return (disabled[0] if disabled else fn)(*arguments, **keywords)

    return call


class _OfRealOnes(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return not _is_lazy(_DYNAMO) and isinstance(instance, sys.modules[_DYNAMO].OptimizedModule)


class _OptimizedModule(metaclass=_OfRealOnes):
    """Stand-in for the class of compiled modules, of which there are none yet."""


class _CompiledAutograd(ModuleType):
    """Stand-in for the module of compiled backward passes, which torch.func turns off around each of its own."""

    def _disable(self) -> AbstractContextManager[None]:
        """Turn compiled backward passes off; there are none yet."""
        return nullcontext() if _is_lazy(_DYNAMO) else self.__getattr__("_disable")()

    def __getattr__(self, name: str) -> Any:
        """Look a name up in the real module."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(f"{_DYNAMO}.compiled_autograd"), name)


_LIGHT = {
    "compiled_autograd": _CompiledAutograd(f"{_DYNAMO}.compiled_autograd"),
    "graph_break": _graph_break,
    "disable": _disable,
    "OptimizedModule": _OptimizedModule,
}
