"""The public names of the package: all there, imported at their first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import metaloop


def test_every_name_is_there() -> None:
    for name in metaloop.__all__:
        assert getattr(metaloop, name) is not None
    assert metaloop.load_run.__module__ == "metaloop.evaluation.finished_run"
    assert dir(metaloop) == metaloop.__all__
    with pytest.raises(AttributeError, match="no attribute 'lode_run'"):
        metaloop.lode_run  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(metaloop.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: f"{node.module}" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"metaloop.{module}" for name, module in metaloop._MODULES.items()}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import metaloop, sys; dir(metaloop); metaloop.UserError; print({'torch', 'numpy', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
