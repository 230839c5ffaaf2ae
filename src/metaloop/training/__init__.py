"""The outer loop: the only package that imports Lightning, whose slowest imports are made fast first."""

from metaloop.training.starting import light_dynamo, light_torchmetrics

light_torchmetrics.install()
light_dynamo.install()
