"""Conv-4's shapes."""

import pytest
import torch

from metaloop.errors import UserError
from metaloop.models.convolutional.conv4 import Conv4


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("halvings", [0, 1, 2, 4])
@pytest.mark.parametrize("downsample", ["pool", "stride"])
@pytest.mark.parametrize("side", [28, 17])
def test_it_says_how_large_its_maps_and_features_are(side: int, downsample: str, halvings: int, kernels: bool) -> None:
    model = Conv4((1, side, side), None, filters=8, downsample=downsample, halvings=halvings, kernels=kernels)
    x = torch.randn(2, 1, side, side)
    features = model(x)
    assert features.shape == (2, model.features)
    maps = model(x, maps=True)
    assert maps.shape == (2, *model.map_shape)
    torch.testing.assert_close(maps.mean((-2, -1)) if downsample == "stride" else maps.flatten(1), features)


@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_kernels_change_nothing_where_blocks_do_not_halve(downsample: str) -> None:
    def answers(kernels: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = Conv4((1, 16, 16), 3, filters=8, downsample=downsample, halvings=2, kernels=kernels).double()
        return model(torch.randn(4, 1, 16, 16, dtype=torch.float64))

    torch.testing.assert_close(answers(True), answers(False))


def test_halvings_that_cannot_be_are_refused() -> None:
    for halvings in (-1, 5):
        with pytest.raises(UserError, match=rf"model\.halvings={halvings}"):
            Conv4((1, 28, 28), None, halvings=halvings)
    with pytest.raises(UserError, match=r"8x8 is too small"):
        Conv4((1, 8, 8), None)
    Conv4((1, 8, 8), None, halvings=2)
