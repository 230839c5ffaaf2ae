"""Texts read by their lengths."""

import torch
from torch import Tensor

from metaloop.models.padding import by_length, stacked


def _texts(ends: list[int], length: int = 12) -> dict[str, Tensor]:
    mask = (torch.arange(length) < torch.tensor(ends)[:, None]).long()
    return {"input_ids": torch.arange(len(ends) * length).reshape(-1, length) * mask, "attention_mask": mask}


def test_states_come_back_in_order_without_the_padding_that_nobody_needs() -> None:
    torch.manual_seed(0)
    ends = torch.randint(1, 10, (100,)).tolist()
    texts, seen = _texts(ends), []

    def read(x: dict[str, Tensor]) -> Tensor:
        seen.append(x["input_ids"].shape)
        return (x["input_ids"] + x["attention_mask"])[..., None].expand(-1, -1, 3)

    found = by_length(read, texts)
    longest = max(ends)
    torch.testing.assert_close(found, read(texts)[:, :longest])
    assert [rows for rows, _ in seen[:-1]] == [32, 32, 32, 4]
    assert sum(rows * length for rows, length in seen[:-1]) < sum(ends) * 1.5
    torch.testing.assert_close(
        by_length(lambda x: x["input_ids"].sum(1, keepdim=True), texts), texts["input_ids"].sum(1)[:, None]
    )


def test_an_empty_text_keeps_one_place_and_inputs_of_another_length_stay() -> None:
    texts = _texts([0, 3]) | {"place": torch.tensor([[0], [2]])}
    found = by_length(lambda x: x["input_ids"] + 0 * x["place"], texts)
    torch.testing.assert_close(found, texts["input_ids"][:, :3])


def test_where_asking_for_lengths_makes_the_host_wait_nothing_is_asked() -> None:
    texts = {name: value.to("meta") for name, value in _texts([2, 5]).items()}
    assert by_length(lambda x: x["input_ids"], texts).shape == (2, 12)


def test_parts_of_several_lengths_are_stacked() -> None:
    parts = [torch.ones(1, 2, 3), torch.ones(2, 4, 3)]
    found = stacked(parts)
    assert found.shape == (3, 4, 3)
    assert found[0, 2:].abs().max() == 0
    assert torch.equal(stacked([torch.eye(2), torch.eye(2)]), torch.eye(2).repeat(2, 1))
