"""Episodes of sentences whose words are labelled: each word is an example, beside what says which words are one sentence."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.tagging import Tagging
from metaloop.types import EpisodeSpec, Examples, Inputs, Span, Tasks, highest, map_inputs


class WordPool(TaskDistribution):
    """Words grouped by sentence; an episode has ``ways`` types of entities and class 0, for words of none of them.

    Sentences are drawn until every type of the episode has ``shots`` of them (for queries: ``queries``), then those are left
    out without which that stays so: the minimal sets of Hou et al. (2020, ACL, algorithm 1), drawn by type. So a type may
    occur more often. No sentence is in support and query. Examples come sentence by sentence, padded to the longest that such
    sentences can be.

    Args:
        inputs: (words, *input), or a mapping of such tensors; sentence by sentence. Where ``place`` (words, 1) is among them,
            the other rows are the whole sentence's, and it says where in it the word is.
        lengths: words of each sentence.
        tags: (words,) the number of the type that a word is of, or -1.
        names: the types' names, in order.
        groups: how many consecutive types each group has; an episode's types are of one group. A sentence has types of one.
        split: the split's name, for messages.
    """

    problem = Tagging()

    def __init__(
        self, inputs: Inputs, lengths: Sequence[int], tags: Tensor, names: Sequence[str], groups: Sequence[int], split: str
    ) -> None:
        first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        if not sum(lengths) == len(first) == len(tags) or sum(groups) != len(names) or min(lengths, default=0) < 1:
            raise ValueError(f"{len(first)} words, lengths of {sum(lengths)}, {len(tags)} tags, {len(names)} names, {groups}")
        self.inputs, self.names, self.groups, self.split = inputs, tuple(names), tuple(groups), split
        self.input_shape = tuple(first.shape[1:])
        self._lengths, self._tags = np.asarray(lengths), tags.cpu().numpy()
        self._starts = np.cumsum(self._lengths) - self._lengths
        sentence = np.repeat(np.arange(len(self._lengths)), self._lengths)
        self._has = np.zeros((len(self._lengths), len(names)), bool)  # which types a sentence has
        self._has[sentence[self._tags >= 0], self._tags[self._tags >= 0]] = True
        self._of_type = [np.flatnonzero(column) for column in self._has.T]
        self._device = first.device

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError where episodes vary in size, or types or sentences are too few."""
        if not isinstance(spec.ways, int) or not isinstance(spec.shots, int):
            raise UserError(
                f"episode.ways={spec.ways}, episode.shots={spec.shots}: labelled words have no ranges; one number each"
            )
        if highest(spec.ways) > max(self.groups):
            raise UserError(
                f"episode.ways={spec.ways}: the types of an episode are of one group, and no group of the {self.split} split "
                f"has more than {max(self.groups)}"
            )
        need = self._candidates(spec)
        for group in self._large(spec):
            for kind in self._members(int(group)):
                if len(self._of_type[kind]) < need:
                    raise UserError(
                        f"episode.ways * episode.shots + episode.queries = {need} sentences may be needed of each type; the "
                        f"{self.split} split has only {len(self._of_type[kind])} of {self.names[kind]!r}; dataset.least={need} "
                        f"leaves such types out"
                    )

    def outputs(self, spec: EpisodeSpec) -> int:
        """The types, and none of them."""
        return highest(spec.ways) + 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        return int(np.prod(self.input_shape)) * sum(self._widest(count, spec) for count in (spec.shots, spec.queries))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; types are labelled from 1 in the order in which they were drawn."""
        here = numbers.cpu()
        kinds = self._draw_types(stream, here, spec)
        sizes = torch.tensor([[len(self._of_type[kind]) for kind in row] for row in kinds])
        drawn = stream.without_replacement(here, sizes, self._candidates(spec), "sentences").numpy()
        chosen = []
        for row, places in zip(kinds, drawn, strict=True):
            candidates = [self._of_type[kind][place] for kind, place in zip(row, places, strict=True)]
            support = self._pick(candidates, row, highest(spec.shots), set())
            chosen.append((support, self._pick(candidates, row, spec.queries, set(support))))
        sides = [
            self._examples([pair[side] for pair in chosen], kinds, self._widest(count, spec))
            for side, count in enumerate((spec.shots, spec.queries))
        ]
        return Tasks(sides[0], sides[1], numbers)

    def _draw_types(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> np.ndarray:
        """(tasks, ways) types of a group that is drawn among those that have enough."""
        groups, large = np.asarray(self.groups), self._large(spec)
        group = large[stream.integers(numbers, 1, "group", len(large))[:, 0].numpy()]
        types = stream.without_replacement(numbers, torch.from_numpy(groups[group])[:, None], highest(spec.ways), "classes")
        return (np.cumsum(groups) - groups)[group][:, None] + types[:, 0].numpy()

    def _pick(self, candidates: Sequence[np.ndarray], kinds: np.ndarray, least: int, taken: set[int]) -> list[int]:
        """Sentences, none of those ``taken``, of which at least ``least`` have each of the types."""
        picked: list[int] = []
        count = np.zeros(len(kinds), int)
        for place, sentences in enumerate(candidates):
            for sentence in sentences:
                if count[place] >= least:
                    break
                if sentence not in taken and sentence not in picked:
                    picked.append(int(sentence))
                    count += self._has[sentence, kinds]
        for sentence in tuple(picked):
            rest = count - self._has[sentence, kinds]
            if (rest >= least).all():
                picked.remove(sentence)
                count = rest
        return picked

    def _examples(self, chosen: Sequence[Sequence[int]], kinds: np.ndarray, width: int) -> Examples:
        """The words of each task's sentences; padding repeats the last."""
        shape = (len(chosen), width)
        rows, labels, number, real = (np.zeros(shape, dtype) for dtype in (int, int, int, bool))
        for task, sentences in enumerate(chosen):
            words = np.concatenate([np.arange(self._starts[s], self._starts[s] + self._lengths[s]) for s in sentences])
            end = len(words)
            rows[task, :end], rows[task, end:], real[task, :end] = words, words[-1], True
            number[task, :end] = np.repeat(np.arange(len(sentences)), self._lengths[list(sentences)])
            found = self._tags[words][:, None] == kinds[task]
            labels[task, :end] = np.where(found.any(1), found.argmax(1) + 1, 0)
        rows_, labels_, number_, real_ = (torch.from_numpy(each).to(self._device) for each in (rows, labels, number, real))
        return Examples(self.gather(rows_), labels_, real_, kinds.shape[1] + 1, sequence=number_)

    def _candidates(self, spec: EpisodeSpec) -> int:
        """Sentences of a type, of which there are enough for a query whatever the support has."""
        return highest(spec.ways) * highest(spec.shots) + spec.queries

    def _widest(self, count: Span, spec: EpisodeSpec) -> int:
        """Words of the longest sentences that a side of an episode with ``count`` sentences a type can have."""
        return int(np.sort(self._lengths)[-highest(spec.ways) * highest(count) :].sum())

    def _large(self, spec: EpisodeSpec) -> np.ndarray:
        return np.flatnonzero(np.asarray(self.groups) >= highest(spec.ways))

    def _members(self, group: int) -> range:
        first = sum(self.groups[:group])
        return range(first, first + self.groups[group])

    def gather(self, rows: Tensor) -> Inputs:
        """Words by row of the pool, as the model gets them: (tasks, examples) int64 to (tasks, examples, *input)."""
        return map_inputs(lambda pool: pool[rows] if pool.is_floating_point() else pool[rows].long(), self.inputs)

    def of(self, inputs: Inputs) -> Self:
        """The same sentences with other inputs for their words."""
        return type(self)(inputs, self._lengths.tolist(), torch.from_numpy(self._tags), self.names, self.groups, self.split)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return self.of(map_inputs(lambda tensor: tensor.to(device), self.inputs))
