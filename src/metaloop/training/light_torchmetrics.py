"""Import of torchmetrics what Lightning and our scores need, and the rest of it when somebody asks for it.

Lightning and we import from ``torchmetrics``, whose packages import scipy, matplotlib and transformers for metrics that no
run here uses: a quarter of the time before the first outer step. Here two packages are entered into ``sys.modules`` without
having been run. The first name that is looked up in one of them, beside the few that are light, runs it: code of a user's
own finds all of torchmetrics as it is.
"""

import importlib
import importlib.util
import logging
import sys
from functools import partial
from types import ModuleType
from typing import Any

_PACKAGES = ("torchmetrics", "torchmetrics.functional")
_LIGHT = {
    "__version__": "torchmetrics.__about__",
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
}
_PLOT = "torchmetrics.utilities.plot"


def install() -> None:
    """Enter the packages; to be called before Lightning is imported. Does nothing where they are imported already."""
    if "torchmetrics" in sys.modules or importlib.util.find_spec("torchmetrics") is None:
        return
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        package = importlib.util.module_from_spec(spec)
        package.__dict__["__getattr__"] = partial(_look_up, package)
        sys.modules[name] = package
    sys.modules["torchmetrics"].__dict__["_logger"] = logging.getLogger("torchmetrics")  # its parts take it from there


def _look_up(package: ModuleType, name: str) -> Any:
    """An attribute that the package does not have yet: one of `_LIGHT`, or else of the package when it has been run."""
    if package.__name__ == "torchmetrics" and name in _LIGHT:
        try:
            return package.__dict__.setdefault(name, _light(name))
        except (ImportError, AttributeError):  # a version of it that is built otherwise
            for part in [key for key in sys.modules if key.startswith("torchmetrics.")]:
                del sys.modules[part]
    del package.__dict__["__getattr__"]
    assert package.__spec__ is not None
    assert package.__spec__.loader is not None
    package.__spec__.loader.exec_module(package)
    return getattr(package, name)


def _light(name: str) -> Any:
    """The name, without matplotlib where it is not imported yet."""
    stands_in = _PLOT not in sys.modules
    if stands_in:
        sys.modules[_PLOT] = _plot()
    try:
        importlib.import_module("torchmetrics.utilities")  # first, since it and the module of Metric import each other
        return getattr(importlib.import_module(_LIGHT[name]), name)
    finally:
        if stands_in:
            sys.modules.pop(_PLOT, None)


def _plot() -> ModuleType:
    """What the two classes take from the module that imports matplotlib: two types of annotations and a function."""

    def plot_single_or_multi_val(*arguments: Any, **named: Any) -> Any:
        return importlib.import_module(_PLOT).plot_single_or_multi_val(*arguments, **named)

    module = ModuleType(_PLOT)
    module.__dict__.update(_AX_TYPE=Any, _PLOT_OUT_TYPE=Any, plot_single_or_multi_val=plot_single_or_multi_val)
    return module
