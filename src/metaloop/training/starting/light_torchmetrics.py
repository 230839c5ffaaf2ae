"""A lazy import of torchmetrics that saves a quarter of the time before the first outer step.

Lightning imports ``torchmetrics``, whose packages import scipy, matplotlib and transformers for metrics that no run uses.
:func:`install` puts two of its packages into ``sys.modules`` without running them. The few names in ``_LIGHT`` are imported
alone. Any other name runs the package, so a user's own code sees all of torchmetrics.
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
    """Install the lazy packages; call it before Lightning is imported. Does nothing if torchmetrics is imported already."""
    if "torchmetrics" in sys.modules or importlib.util.find_spec("torchmetrics") is None:
        return
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        package = importlib.util.module_from_spec(spec)
        package.__dict__["__getattr__"] = partial(_look_up, package)
        sys.modules[name] = package
    sys.modules["torchmetrics"].__dict__["_logger"] = logging.getLogger("torchmetrics")  # its modules import the name


def _look_up(package: ModuleType, name: str) -> Any:
    """Import a name of ``_LIGHT`` alone; for any other name run the package and take it from there."""
    if package.__name__ == "torchmetrics" and name in _LIGHT:
        try:
            return package.__dict__.setdefault(name, _light(name))
        except (ImportError, AttributeError):  # a version of torchmetrics with other modules
            for part in [key for key in sys.modules if key.startswith("torchmetrics.")]:
                del sys.modules[part]
    del package.__dict__["__getattr__"]
    assert package.__spec__ is not None
    assert package.__spec__.loader is not None
    package.__spec__.loader.exec_module(package)
    return getattr(package, name)


def _light(name: str) -> Any:
    """Import one name without importing matplotlib."""
    replaced = _PLOT not in sys.modules
    if replaced:
        sys.modules[_PLOT] = _plot()
    try:
        importlib.import_module("torchmetrics.utilities")  # first, because it and the module of Metric import each other
        return getattr(importlib.import_module(_LIGHT[name]), name)
    finally:
        if replaced:
            sys.modules.pop(_PLOT, None)


def _plot() -> ModuleType:
    """Stand-in for the module that imports matplotlib: the two type names and the function that the two classes need."""

    def plot_single_or_multi_val(*arguments: Any, **named: Any) -> Any:
        return importlib.import_module(_PLOT).plot_single_or_multi_val(*arguments, **named)

    module = ModuleType(_PLOT)
    module.__dict__.update(_AX_TYPE=Any, _PLOT_OUT_TYPE=Any, plot_single_or_multi_val=plot_single_or_multi_val)
    return module
