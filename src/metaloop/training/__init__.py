"""The outer loop. The only part that knows Lightning, whose heaviest import is made light before any of it is imported."""

from metaloop.training.light_torchmetrics import install

install()
