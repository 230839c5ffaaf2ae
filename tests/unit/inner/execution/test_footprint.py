"""What graphs hold, in bytes."""

import torch

from metaloop.inner.execution.footprint import free_bytes, graph_bytes


def test_a_graph_holds_what_its_backward_pass_needs_once() -> None:
    x = torch.ones(1000, requires_grad=True)

    def run() -> None:
        y = x.exp()  # keeps its result, 4,000 bytes
        z = y * y  # keeps y twice more
        z.sin().sum().backward()  # keeps z

    assert graph_bytes(run) == 8000


def test_a_freed_graph_does_not_count() -> None:
    x = torch.ones(1000, requires_grad=True)

    def run() -> None:
        for _ in range(5):
            x.exp().sum().backward()

    assert graph_bytes(run) == 4000


def test_there_is_some_memory() -> None:
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50
