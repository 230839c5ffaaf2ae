"""What the listing promises: folders and files of a readable size, one public class to a name."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "metaloop"
FILES = sorted(SOURCE.rglob("*.py"))


def test_no_folder_holds_more_than_sixteen_modules() -> None:
    modules = defaultdict(list)
    for file in FILES:
        modules[file.parent].append(file.name)
    assert {folder.name: len(names) for folder, names in modules.items() if len(set(names) - {"__init__.py"}) > 16} == {}


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    assert [str(file.relative_to(SOURCE)) for file in FILES if len(file.read_text().splitlines()) > 400] == []


def test_a_public_class_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(SOURCE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
