"""Episodes of sentences with labelled words: every word is an example, and knows its sentence."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.split_contents import split_contents
from metaloop.errors import UserError
from metaloop.problems.baselines import same_word
from metaloop.problems.problem import Baseline
from metaloop.problems.tagging import Tagging
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Examples, Inputs, Span, Tasks, highest, map_inputs


class WordPool(TaskDistribution):
    """Words grouped by sentence. An episode has ``ways`` entity types, and class 0 for words without one of these types.

    Sentences are drawn until every type of the episode occurs in ``shots`` of them (``queries`` for the query set). Sentences
    that are not needed for this are then removed. These are the minimal sets of Hou et al. (2020, ACL, algorithm 1), drawn by
    type, so a type may occur more often. No sentence is in both support and query. Examples are ordered by sentence and padded
    to the largest number of words that such sentences can have.

    Args:
        inputs: (words, *input), or a mapping of such tensors, ordered by sentence. If the mapping has ``place`` (words, 1), the
            other tensors hold the whole sentence in each row, and ``place`` is the position of the word in it.
        lengths: number of words of each sentence.
        tags: (words,) number of each word's type; -1 for none.
        names: names of the types, in order.
        groups: number of consecutive types in each group. The types of an episode, and of a sentence, are from one group.
        split: name of the split, for messages.
    """

    problem = Tagging()
    inputs: Inputs

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
        self._has = np.zeros((len(self._lengths), len(names)), bool)  # (sentences, types)
        self._has[sentence[self._tags >= 0], self._tags[self._tags >= 0]] = True
        self._of_type = [np.flatnonzero(column) for column in self._has.T]
        self._device = first.device

    def baseline(self) -> Baseline | None:
        """See :meth:`TaskDistribution.baseline`; of words as tokens, the class of the same word in the support set."""
        return super().baseline() if isinstance(self.inputs, Tensor) else Baseline("class of the same word", same_word)

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; the number of a type's words takes the place of that of examples."""
        words = {name: int((self._tags == number).sum()) for number, name in enumerate(self.names)}
        return split_contents(words, self.inputs)

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if episodes vary in size, or if there are too few types or sentences."""
        if not isinstance(spec.ways, int) or not isinstance(spec.shots, int):
            raise UserError(f"{spec.said('ways', 'shots')}: labelled words need one number each, not a range")
        if highest(spec.ways) > max(self.groups):
            raise UserError(
                f"{spec.said('ways')}: the types of an episode come from one group, and the largest group of the "
                f"{self.split} split has {max(self.groups)}"
            )
        need = self._candidates(spec)
        for group in self._large_groups(spec):
            for each in self._members(int(group)):
                if (count := len(self._of_type[each])) < need:
                    raise UserError(
                        f"{spec.said('ways', 'shots', 'queries')}: {need} sentences of each type may be needed, the "
                        f"{self.split} split has only {count} of {self.names[each]!r}; dataset.least={need} drops such types"
                    )

    def outputs(self, spec: EpisodeSpec) -> int:
        """The number of types, plus one for words without a type."""
        return highest(spec.ways) + 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        return int(np.prod(self.input_shape)) * sum(self._max_words(count, spec) for count in (spec.shots, spec.queries))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`. Types are labelled from 1 in the order in which they were drawn."""
        cpu_numbers = numbers.cpu()
        types = self._draw_types(stream, cpu_numbers, spec)
        sizes = torch.tensor([[len(self._of_type[each]) for each in row] for row in types])
        drawn = stream.without_replacement(cpu_numbers, sizes, self._candidates(spec), "sentences").numpy()
        supports, queries = [], []
        for row, indices in zip(types, drawn, strict=True):
            candidates = [self._of_type[each][index] for each, index in zip(row, indices, strict=True)]
            supports.append(self._pick(candidates, row, highest(spec.shots), set()))
            queries.append(self._pick(candidates, row, spec.queries, set(supports[-1])))
        support = self._examples(supports, types, self._max_words(spec.shots, spec))
        return Tasks(support, self._examples(queries, types, self._max_words(spec.queries, spec)), numbers)

    def _draw_types(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> np.ndarray:
        """Draw the types (tasks, ways) of each episode from a random group that has at least ``ways`` types."""
        groups, large = np.asarray(self.groups), self._large_groups(spec)
        group = large[stream.integers(numbers, 1, "group", len(large))[:, 0].numpy()]
        types = stream.without_replacement(numbers, torch.from_numpy(groups[group])[:, None], highest(spec.ways), "classes")
        first: np.ndarray = (np.cumsum(groups) - groups)[group]
        result: np.ndarray = first[:, None] + types[:, 0].numpy()
        return result

    def _pick(self, candidates: Sequence[np.ndarray], types: np.ndarray, least: int, taken: set[int]) -> list[int]:
        """Pick a minimal set of sentences, none from ``taken``, in which every type occurs at least ``least`` times."""
        picked: list[int] = []
        count = np.zeros(len(types), int)
        for index, sentences in enumerate(candidates):
            for sentence in sentences:
                if count[index] >= least:
                    break
                if sentence not in taken and sentence not in picked:
                    picked.append(int(sentence))
                    count += self._has[sentence, types]
        for sentence in tuple(picked):
            remaining = count - self._has[sentence, types]
            if (remaining >= least).all():
                picked.remove(sentence)
                count = remaining
        return picked

    def _examples(self, picked: Sequence[Sequence[int]], types: np.ndarray, width: int) -> Examples:
        """The words of each task's sentences, padded to ``width`` with the last word."""
        shape = (len(picked), width)
        rows, labels, sentence, real = (np.zeros(shape, dtype) for dtype in (int, int, int, bool))
        for task, sentences in enumerate(picked):
            words = np.concatenate([np.arange(self._starts[s], self._starts[s] + self._lengths[s]) for s in sentences])
            end = len(words)
            rows[task, :end], rows[task, end:], real[task, :end] = words, words[-1], True
            sentence[task, :end] = np.repeat(np.arange(len(sentences)), self._lengths[list(sentences)])
            matches = self._tags[words][:, None] == types[task]
            labels[task, :end] = np.where(matches.any(1), matches.argmax(1) + 1, 0)
        x, y, sequence, mask = (torch.from_numpy(each).to(self._device) for each in (rows, labels, sentence, real))
        return Examples(self.gather(x), y, mask, types.shape[1] + 1, sequence=sequence)

    def _candidates(self, spec: EpisodeSpec) -> int:
        """Number of sentences drawn for a type: enough for the queries, whatever the support uses."""
        return highest(spec.ways) * highest(spec.shots) + spec.queries

    def _max_words(self, count: Span, spec: EpisodeSpec) -> int:
        """Largest number of words in a support or query set with ``count`` sentences a type."""
        return int(np.sort(self._lengths)[-highest(spec.ways) * highest(count) :].sum())

    def _large_groups(self, spec: EpisodeSpec) -> np.ndarray:
        return np.flatnonzero(np.asarray(self.groups) >= highest(spec.ways))

    def _members(self, group: int) -> range:
        first = sum(self.groups[:group])
        return range(first, first + self.groups[group])

    def gather(self, rows: Tensor) -> Inputs:
        """The model inputs (tasks, examples, *input) of words by their row in the pool, (tasks, examples) int64."""
        return map_inputs(lambda pool: pool[rows] if pool.is_floating_point() else pool[rows].long(), self.inputs)

    def of(self, inputs: Inputs) -> Self:
        """A pool of the same sentences with other inputs for their words."""
        return type(self)(inputs, self._lengths.tolist(), torch.from_numpy(self._tags), self.names, self.groups, self.split)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return self.of(map_inputs(lambda tensor: tensor.to(device), self.inputs))
