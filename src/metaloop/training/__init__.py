"""The outer loop: the only package that imports Lightning, whose slowest import is made fast first."""

from metaloop.training.light_torchmetrics import install

install()
