"""Every concrete class of the package is covered by its contract."""

import pytest
from members import ALL_MEMBERS, not_covered, package_classes
from torch import nn

from metaloop.inner.rules.rule import GradientDescent


@pytest.mark.parametrize("base", ALL_MEMBERS, ids=lambda base: base.__name__)
def test_every_concrete_class_is_in_the_tables(base: type) -> None:
    classes = package_classes()
    assert ALL_MEMBERS[base] <= classes  # otherwise the search found nothing
    assert not not_covered(base, classes), f"add a line for it to the tables of {__file__.replace('test_coverage', 'members')}"


def test_a_class_missing_from_the_tables_is_noticed() -> None:
    class Momentum(GradientDescent):
        pass

    class NewModel(nn.Module):
        def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
            super().__init__()

    classes = package_classes() | {Momentum, NewModel}
    assert not_covered(GradientDescent.__bases__[0], classes) == {"Momentum"}
    assert not_covered(nn.Module, classes) == {"NewModel"}
