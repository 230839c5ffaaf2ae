"""Small networks on vectors with one unusual feature each, as users write them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WIDTH = 8


class Net(nn.Module):
    """Two layers and a head; ``middle`` stands between them."""

    def __init__(
        self, input_shape: tuple[int, ...], outputs: int | None, middle: Callable[[], nn.Module] = nn.Identity
    ) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(input_shape), WIDTH)
        self.middle = middle()
        self.second = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, outputs) if outputs is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1)))

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.middle(self.first(x)))))


class TwoPaths(nn.Module):
    """One layer is reachable by two paths, and the head has another name first."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(input_shape), WIDTH)
        self.last = nn.Linear(WIDTH, outputs or WIDTH)
        self.head = self.last
        self.net = nn.Sequential(self.first, nn.Tanh(), self.last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


class Listed(Net):
    """Layers as attributes and in a list."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.layers = nn.ModuleList([self.first, self.second])

    def body(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Twice(Net):
    """One layer is used twice."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.stack = nn.Sequential(self.second, nn.Tanh(), self.second)

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(self.stack(torch.tanh(self.first(x))))


class Tied(Net):
    """Two layers share one weight."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.third = nn.Linear(WIDTH, WIDTH)
        self.third.weight = self.second.weight

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(self.third(super().body(x)))


class TiedHead(Net):
    """The head shares its weight with the first layer."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        size = math.prod(input_shape)
        self.first = nn.Linear(size, outputs or size)
        self.second = nn.Linear(outputs or size, size)
        if outputs is not None:
            self.head = nn.Linear(size, outputs)
            self.head.weight = self.first.weight


class WithBuffer(Net):
    """A constant in a buffer."""

    def __init__(
        self, input_shape: tuple[int, ...], outputs: int | None, middle: Callable[[], nn.Module] = nn.Identity
    ) -> None:
        super().__init__(input_shape, outputs, middle)
        self.register_buffer("shift", torch.linspace(-1, 1, math.prod(input_shape)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1) + self.shift)


class Counting(Net):
    """A buffer that changes at each call."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class AnswersDict(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": super().forward(x)}


class AnswersColumns(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., None]


class Raises(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("nothing here")


class RaisesAtOnce(Net):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        raise ValueError("the width must be even")


class Unregistered(Net):
    """A layer in a plain list."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.hidden = [nn.Linear(WIDTH, WIDTH)]

    def body(self, x: Tensor) -> Tensor:
        return self.hidden[0](super().body(x))


class Checkpointed(Net):
    """Activations are computed again in the backward pass, from the module's own parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, x.flatten(1), use_reentrant=False))


class Complex(Net):
    """A filter of frequencies, which is a complex parameter."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.filter = nn.Parameter(torch.ones(math.prod(input_shape) // 2 + 1, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return super().forward(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=x.shape[1]))


class Lazy(Net):
    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__(input_shape, outputs)
        self.first = nn.LazyLinear(WIDTH)


class Recurrent(nn.Module):
    """A network that vmap cannot run."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__()
        self.cells = nn.LSTM(1, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, outputs) if outputs is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x.flatten(1)[..., None])[0][:, -1])
