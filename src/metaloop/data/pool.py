"""Classification episodes from a pool of examples, stored once on the training device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.augmentation import Augmentation
from metaloop.data.copies import Copies
from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.split_contents import split_contents
from metaloop.errors import UserError
from metaloop.problems.baselines import nearest_text
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Baseline
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest, lowest, map_inputs

ROTATIONS = ("none", "classes", "augment")


class ClassPool(TaskDistribution):
    """Examples grouped by class. An episode is a gather of rows.

    Args:
        inputs: (examples, *input), or a mapping of such tensors, ordered by class. Images are uint8 (examples, channels,
            height, width), and the model reads them as float32 in [0, 1]. Token ids and masks are integers (examples, length),
            and the model reads them as int64.
        sizes: number of examples of each class, in order.
        names: names of the classes, in order.
        rotations: "none"; "classes" makes the rotations by 90, 180 and 270 degrees further classes (class ``4 c + r``);
            "augment" turns every class of an episode by a random multiple of 90 degrees. Square images only.
        groups: number of consecutive classes in each group. The classes of an episode then come from one group, drawn
            uniformly. Empty for a single group of all classes.
        split: name of the split, for messages.
        augmentation: random changes of every image of an episode; None for none.
        copies: which examples are equal, if no episode may have equal ones in support and query; None if it may, or if all
            examples are different. Not together with rotations.

    Attributes:
        num_classes: number of classes that an episode can draw from, including rotations as classes.
    """

    problem = Classification()
    has_unlabelled = True
    inputs: Inputs

    def __init__(
        self,
        inputs: Inputs,
        sizes: Sequence[int],
        names: Sequence[str],
        *,
        rotations: str = "none",
        groups: Sequence[int] = (),
        split: str = "",
        augmentation: Augmentation | None = None,
        copies: Copies | None = None,
    ) -> None:
        first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        if rotations not in ROTATIONS:
            raise UserError(f"dataset.rotations={rotations!r} must be one of {', '.join(ROTATIONS)}")
        if rotations != "none" and (first.ndim != 4 or first.shape[-1] != first.shape[-2]):
            raise UserError(
                f"dataset.rotations={rotations} needs square images, got examples of shape {tuple(first.shape[1:])}"
            )
        if sum(sizes) != len(first) or len(sizes) != len(names):
            raise ValueError(f"{len(first)} examples but sizes for {sum(sizes)}; {len(sizes)} sizes but {len(names)} names")
        turns = 4 if rotations == "classes" else 1
        if groups and (sum(groups) != len(names) or min(groups) < 1):
            raise ValueError(f"groups of {list(groups)} classes do not divide {len(names)} classes")
        # Four rotated copies cost memory (100 MB for Omniglot), but make an episode a single gather.
        turned = map_inputs(_all_turns, inputs) if rotations != "none" else inputs
        self.inputs = inputs
        self._turned = turned
        self._examples = len(first)
        self.rotations = rotations
        self.split = split
        self.augmentation, self.copies = augmentation, copies
        if augmentation is not None:
            augmentation.check(first)
        self.input_shape = tuple(first.shape[1:])
        self.names = tuple(names)
        self.class_sizes = tuple(sizes)
        self.num_classes: int = len(names) * turns
        self.groups = tuple(groups)
        self._group_sizes = torch.tensor(self.groups or (len(names),), device=first.device) * turns
        self._sizes = torch.tensor(self.class_sizes, device=first.device)
        self._starts = torch.cumsum(self._sizes, 0) - self._sizes

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if the split has too few classes, or a class has too few examples."""
        if lowest(spec.ways) < 2:
            raise UserError(f"{spec.said('ways')}: classification needs at least 2 ways")
        classes, more = highest(spec.ways) + spec.distractors, ""
        if classes > self.num_classes:
            few = "; each split needs two or more. metaloop predict adapts a finished run to few classes"
            few = few if self.num_classes < 2 else ""
            more = f" + {spec.key('distractors')}={spec.distractors}" if spec.distractors else ""
            raise UserError(f"{spec.said('ways')}{more}: the {self.split} split has only {self.num_classes} classes{few}")
        if classes > (least := min(self.groups, default=len(self.names)) * (self.num_classes // len(self.names))):
            raise UserError(
                f"{spec.said('ways')}{more}: all classes of an episode come from one group, and the smallest "
                f"group of the {self.split} split has only {least}"
            )
        need = highest(spec.shots) + spec.queries + spec.unlabelled
        smallest = min(range(len(self.class_sizes)), key=self.class_sizes.__getitem__)
        if need > self.class_sizes[smallest]:
            terms, numbers = f"{spec.key('shots')} + {spec.key('queries')}", f"{highest(spec.shots)} + {spec.queries}"
            if spec.unlabelled:
                terms, numbers = f"{terms} + {spec.key('unlabelled')}", f"{numbers} + {spec.unlabelled}"
            raise UserError(
                f"{terms} = {numbers} = {need}: class "
                f"{self.names[smallest]!r} of the {self.split} split has only {self.class_sizes[smallest]} examples"
            )
        if self.copies is not None:
            self.copies.check(spec, self.names, self.split)

    def class_name(self, number: int) -> str:
        """See :meth:`TaskDistribution.class_name`; a rotated class is named by its angle, too."""
        if self.rotations != "classes":
            return str(self.names[number])
        return f"{self.names[number // 4]} {90 * (number % 4)}°"

    def baseline(self) -> Baseline | None:
        """See :meth:`TaskDistribution.baseline`; of texts, the class of the text with the most similar words."""
        texts = not isinstance(self.inputs, Tensor) and {"input_ids", "attention_mask"} <= set(self.inputs)
        return Baseline("nearest neighbour by TF-IDF", nearest_text) if texts else super().baseline()

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`."""
        return split_contents(dict(zip(self.names, self.class_sizes, strict=True)), self.inputs)

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest number of ways."""
        return highest(spec.ways)

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        return super().elements(spec) + (0 if self.copies is None else self.copies.elements(spec))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`. Classes are labelled in the order in which they were drawn."""
        ways, shots = highest(spec.ways), highest(spec.shots)
        drawn = self.draw_classes(stream, numbers, ways + spec.distractors)
        classes, stored = drawn[:, :ways], self._stored_class(drawn[:, :ways])
        sizes = self._sizes[stored]
        if self.copies is None:
            members = stream.without_replacement(numbers, sizes, shots + spec.queries, "drawings")
        else:
            members = self.copies.draw(stream, numbers, stored, sizes, shots, spec.queries)
        rows = self._starts[stored][..., None] + members  # (tasks, ways, shots + queries)
        turns = self._turns_of(stream, numbers, classes)
        labels = torch.arange(ways, device=numbers.device)[:, None].expand(len(numbers), ways, rows.shape[-1])
        support_mask, query_mask = episode_masks(stream, numbers, spec)

        def part(name: str, columns: slice, mask: Tensor | None) -> Examples:
            x = self._prepare(stream, numbers, rows[..., columns], turns, name)
            return Examples(x, labels[..., columns].flatten(1), mask, ways)

        support, query = part("support", slice(0, shots), support_mask), part("query", slice(shots, None), query_mask)
        if spec.unlabelled:
            x, real = self._unlabelled(stream, numbers, spec, drawn, members, support_mask)
            support = replace(support, unlabelled=x, unlabelled_mask=real)
        if support_mask is not None:
            classes = classes.masked_fill(~support_mask.view(*classes.shape, shots).any(-1), -1)
        return Tasks(support, query, numbers, classes)

    def _unlabelled(
        self, stream: Stream, numbers: Tensor, spec: EpisodeSpec, classes: Tensor, used: Tensor, support_mask: Tensor | None
    ) -> tuple[Inputs, Tensor | None]:
        """Draw unlabelled examples, class by class.

        Args:
            stream: see :meth:`draw`.
            numbers: see :meth:`draw`.
            spec: see :meth:`draw`.
            classes: (tasks, ways + distractors) classes of the unlabelled examples.
            used: (tasks, ways, examples) examples of the support and query sets, which are not drawn again.
            support_mask: mask of the support set, from :func:`episode_masks`.

        Returns:
            Inputs (tasks, unlabelled, *input), and a mask (tasks, unlabelled) that is False for classes which an episode does
            not have (None if all episodes have all classes).
        """
        stored, ways = self._stored_class(classes), used.shape[1]
        sizes = self._sizes[stored]
        unused = stream.without_replacement(numbers, sizes[:, :ways] - used.shape[2], spec.unlabelled, "unlabelled")
        members = _skip(unused, used)
        if spec.distractors:
            distractors = stream.without_replacement(numbers, sizes[:, ways:], spec.unlabelled, "distractors")
            members = torch.cat([members, distractors], 1)
        rows = self._starts[stored][..., None] + members
        x = self._prepare(stream, numbers, rows, self._turns_of(stream, numbers, classes), "unlabelled")
        if support_mask is None:
            return x, None
        present = support_mask.view(len(numbers), ways, -1).any(-1)
        real = torch.cat([present, present.new_ones(len(numbers), spec.distractors)], 1)
        return x, real.repeat_interleave(spec.unlabelled, 1)

    def _prepare(self, stream: Stream, numbers: Tensor, rows: Tensor, turns: Tensor | None, part: str) -> Inputs:
        """Inputs (tasks, ways * examples, *input) of the rows (tasks, ways, examples), rotated by class and augmented."""
        turn = None if turns is None else turns[..., None].expand(rows.shape).flatten(1)
        if self.augmentation is None:
            return self.gather(rows.flatten(1), turn)
        images = self._gather_stored(rows.flatten(1), turn)
        assert isinstance(images, Tensor)
        return self.augmentation(images, stream, numbers, part)

    def _stored_class(self, classes: Tensor) -> Tensor:
        """The class of the pool of which each class is a rotation."""
        return classes // 4 if self.rotations == "classes" else classes

    def draw_classes(self, stream: Stream, numbers: Tensor, ways: int) -> Tensor:
        """Draw distinct classes (tasks, ways) int64 for every episode."""
        if not self.groups:
            total = torch.full((len(numbers), 1), self.num_classes, device=numbers.device)
            return stream.without_replacement(numbers, total, ways, "classes")[:, 0]
        group = stream.integers(numbers, 1, "group", len(self.groups))
        starts = self._group_sizes.cumsum(0) - self._group_sizes
        drawn = stream.without_replacement(numbers, self._group_sizes[group], ways, "classes")[:, 0]
        return starts[group] + drawn

    def gather(self, rows: Tensor, turns: Tensor | None = None) -> Inputs:
        """Gather model inputs (tasks, examples, *input) from the pool.

        Args:
            rows: (tasks, examples) int64 rows of the pool.
            turns: (tasks, examples) int64 number of quarter turns of each image; None for none.
        """
        return as_read(self._gather_stored(rows, turns))

    def _gather_stored(self, rows: Tensor, turns: Tensor | None) -> Inputs:
        """As :meth:`gather`, but in the stored form."""
        if turns is not None:
            rows = rows + turns * self._examples
        return map_inputs(lambda pool: torch.unflatten(pool.index_select(0, rows.flatten()), 0, rows.shape), self._turned)

    def _turns_of(self, stream: Stream, numbers: Tensor, classes: Tensor) -> Tensor | None:
        if self.rotations == "none":
            return None
        return classes % 4 if self.rotations == "classes" else stream.integers(numbers, classes.shape[1], "rotations", 4)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return self.of(map_inputs(lambda tensor: tensor.to(device), self.inputs))

    def of(self, inputs: Inputs) -> Self:
        """A pool with the same classes and episodes and other inputs, such as features of the examples, row for row."""
        first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        return type(self)(
            inputs,
            self.class_sizes,
            self.names,
            rotations=self.rotations,
            groups=self.groups,
            split=self.split,
            augmentation=self.augmentation,
            copies=None if self.copies is None else self.copies.to(first.device),
        )


def as_read(stored: Inputs) -> Inputs:
    """Convert stored examples (tasks, examples, *input) to model inputs: images to floats in [0, 1], integers to int64."""

    def convert(values: Tensor) -> Tensor:
        if values.is_floating_point():
            return values
        return values.float().div_(255.0) if values.dtype == torch.uint8 and values.ndim > 3 else values.long()

    return map_inputs(convert, stored)


def _all_turns(images: Tensor) -> Tensor:
    """The images, followed by all images after one, two and three quarter turns: (4 * examples, ...)."""
    return torch.cat([images.rot90(turn, (-2, -1)) for turn in range(4)])


def _skip(indices: Tensor, used: Tensor) -> Tensor:
    """Convert indices (..., m) among the items that are not in ``used`` (..., n) to indices among all items."""
    for item in used.sort(-1).values.unbind(-1):
        indices = indices + (indices >= item[..., None]).to(indices.dtype)
    return indices


def episode_masks(stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> tuple[Tensor | None, Tensor | None]:
    """Draw the sizes of episodes.

    Returns:
        Masks (tasks, ways * shots) and (tasks, ways * queries) of the real support and query examples; None and None if all
        episodes have one size.
    """
    if not spec.variable:
        return None, None

    def sizes(name: str, low: int, high: int) -> Tensor:
        return low + stream.integers(numbers, 1, name, high - low + 1)

    ways, shots = highest(spec.ways), highest(spec.shots)
    real_way = torch.arange(ways, device=numbers.device) < sizes("ways", lowest(spec.ways), ways)
    real_shot = torch.arange(shots, device=numbers.device) < sizes("shots", lowest(spec.shots), shots)
    support = real_way[:, :, None] & real_shot[:, None, :]
    return support.flatten(1), real_way[:, :, None].expand(-1, -1, spec.queries).flatten(1)


def pool_from_arrays(images: Mapping[str, Tensor], *, rotations: str = "none", split: str = "") -> ClassPool:
    """Build a pool from one uint8 tensor (examples, channels, height, width) for each class."""
    sizes = [len(stack) for stack in images.values()]
    return ClassPool(torch.cat(list(images.values())), sizes, list(images), rotations=rotations, split=split)
