"""Texts read by their lengths."""

import torch
from torch import Tensor

from metaloop.models.transformers.padding import by_length


def _texts(ends: list[int], length: int = 12) -> dict[str, Tensor]:
    mask = (torch.arange(length) < torch.tensor(ends, dtype=torch.long)[:, None]).long()
    return {"input_ids": torch.arange(len(ends) * length).reshape(len(ends), length) * mask, "attention_mask": mask}


def test_states_come_back_in_order_and_in_one_length_though_padding_is_not_read() -> None:
    torch.manual_seed(0)
    ends = torch.randint(1, 10, (100,)).tolist()
    texts, seen = _texts(ends), []

    def read(x: dict[str, Tensor]) -> Tensor:
        seen.append(x["input_ids"].shape)
        return (x["input_ids"] + x["attention_mask"])[..., None].expand(-1, -1, 3)

    found = by_length(read, texts)
    torch.testing.assert_close(found, read(texts))
    assert [rows for rows, _ in seen[:-1]] == [32, 32, 32, 4]
    assert sum(rows * length for rows, length in seen[:-1]) < sum(ends) * 1.5
    torch.testing.assert_close(
        by_length(lambda x: x["input_ids"].sum(1, keepdim=True), texts), texts["input_ids"].sum(1)[:, None]
    )


def test_an_empty_text_is_read_in_its_whole_length_whoever_stands_beside_it() -> None:
    def read(x: dict[str, Tensor]) -> Tensor:
        return (x["input_ids"] + 1).sum(1, keepdim=True)

    for ends in ([0], [0, 3], [3, 12, 0]):
        torch.testing.assert_close(by_length(read, _texts(ends))[ends.index(0)], torch.tensor([12]))


def test_inputs_of_another_length_stay() -> None:
    texts = _texts([2, 3]) | {"place": torch.tensor([[0], [2]])}
    found = by_length(lambda x: (x["input_ids"] + 0 * x["place"]).sum(1, keepdim=True), texts)
    torch.testing.assert_close(found, texts["input_ids"].sum(1, keepdim=True))


def test_no_texts_are_read_at_once() -> None:
    texts = _texts([])
    assert by_length(lambda x: x["input_ids"][..., None].expand(-1, -1, 3), texts).shape == (0, 12, 3)


def test_where_asking_for_lengths_makes_the_host_wait_nothing_is_asked() -> None:
    texts = {name: value.to("meta") for name, value in _texts([2, 5]).items()}
    assert by_length(lambda x: x["input_ids"], texts).shape == (2, 12)
