"""What a config that the user composed may call: the ``_target_`` of every part must be on an allow-list.

A ``_target_`` can name any callable of any installed package, and a preset from the web or a slip of the keyboard is quickly
composed. So the list holds the framework, the user's own code, and the packages that the user trusts (``trust=NAME``). Hydra
1.4 asks for such a list, too. Configs from files of a run are held to the shorter list of :mod:`metaloop.config.trust`.
"""

import inspect
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaloop.errors import UserError

ENVIRONMENT = "METALOOP_TRUST"  # packages separated by commas
GROUP = "metaloop.trusted"  # of entry points; the value of each is a package
ALL = "all"  # in the place of a package: everything
# torch._C._nn has functions of torch.nn, and sklearn the estimators of algorithm=estimator.
_FRAMEWORK = ("metaloop", "torch.nn", "torch._C._nn", "torch.optim", "pytorch_lightning", "sklearn")
_INSTALLED = {"site-packages", "dist-packages"}  # folders of installed packages


def check_targets(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> None:
    """Check every ``_target_`` of a config that the user composed, by name, without importing anything.

    Args:
        config: The config as plain data.
        known: A config whose targets were checked before, of which this one is a change.

    Raises:
        UserError: a target is not on the list; the message says how to put it there.
    """
    checked = {target for _, target in named_targets(known or {})}
    for key, target in named_targets(config):
        if target not in checked and not _is_allowed(target):
            package = target.partition(".")[0]
            kind = "a module of Python" if package in sys.stdlib_module_names else "an installed package"
            raise UserError(
                f"{key}={target}: {package} is {kind} that a config may not call. Allowed are metaloop, torch.nn, torch.optim, "
                f"pytorch_lightning, sklearn, your own code, and what you trust: add trust={package} if the config is meant to "
                "call it (docs/trust.md)"
            )


def check_identity(key: str, target: str, found: object) -> None:
    """Check that a class or function is at home in a package of the list, and not only reached through one.

    Args:
        key: Key of the target.
        target: Its name.
        found: What the name stands for.

    Raises:
        UserError: it is another package's, such as ``mylab.tools.os.system``.
    """
    home = found.__module__ if inspect.isclass(found) or inspect.isroutine(found) else None
    own = home and not _inside(target, ["torch"]) and _inside(home, [target.partition(".")[0]])  # of torch, parts are allowed
    if not home or own or _is_allowed(home):
        return
    package = home.partition(".")[0]
    raise UserError(
        f"{key}={target}: this is {home}.{getattr(found, '__qualname__', '?')}, of a package that a config may not call; add "
        f"trust={package} if the config is meant to call it (docs/trust.md)"
    )


def named_targets(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and the text of every ``_target_`` in a config."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, value in items:
        below = f"{key}.{name}" if key else str(name)
        if name == "_target_" and isinstance(value, str):
            yield below, value
        else:
            yield from named_targets(value, below)


def trusted_packages(trust: Collection[str] = ()) -> frozenset[str]:
    """The packages that the user trusts: those of ``trust``, of the environment and of entry points."""
    environment = filter(None, os.environ.get(ENVIRONMENT, "").replace(" ", "").split(","))
    return frozenset([*trust, *environment, *(point.value for point in entry_points(group=GROUP))])


def _is_allowed(name: str) -> bool:
    if _inside(name, _FRAMEWORK) or not _is_installed(name.partition(".")[0]):
        return True
    trusted = trusted_packages()
    return ALL in trusted or _inside(name, trusted)


def _inside(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_installed(package: str) -> bool:
    """Whether a package is part of Python or lies in a folder of installed packages.

    Own code lies elsewhere: in the working folder, on PYTHONPATH, beside a folder of configs, or where an editable
    installation points to.
    """
    if package in sys.stdlib_module_names:
        return True
    if package == "__main__":  # a script or a notebook; else the module that -m has started
        return False
    try:
        spec: ModuleSpec | None = find_spec(package)
    except (ImportError, ValueError):  # building says what is wrong
        return False
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    return any(_INSTALLED & set(Path(place).parts) for place in places)
