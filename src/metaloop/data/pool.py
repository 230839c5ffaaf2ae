"""Classification episodes from a pool of examples that lives once, as it was stored, on the training device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest, lowest, map_inputs

ROTATIONS = ("none", "classes", "augment")


class ClassPool(TaskDistribution):
    """Examples grouped by class; an episode is a gather.

    Args:
        inputs: (examples, *input), or a mapping of such tensors; the examples of a class are neighbours. Images are uint8
            (examples, channels, height, width) and reach the model as float32 in [0, 1]; token ids and masks are integers
            (examples, length) and reach it as int64.
        sizes: examples of each class, in order.
        names: the classes' names, in order.
        rotations: "none"; "classes" makes the turns by 90, 180 and 270 degrees classes of their own (class ``4 c + r``);
            "augment" turns every class of an episode by a random one of the four. Square images only.
        groups: how many consecutive classes each group has; an episode's classes are then all of one group, drawn uniformly.
            Empty: all classes are one.
        split: the split's name, for messages.
        augmentation: what is done to every image of an episode; None for nothing.

    Attributes:
        num_classes: classes an episode can draw from; rotations as classes count.
    """

    problem = Classification()
    has_unlabelled = True

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
    ) -> None:
        first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        if rotations not in ROTATIONS:
            raise UserError(f"dataset.rotations={rotations!r}: one of {', '.join(ROTATIONS)}")
        if rotations != "none" and (first.ndim != 4 or first.shape[-1] != first.shape[-2]):
            raise UserError(
                f"dataset.rotations={rotations} needs square images, got examples of shape {tuple(first.shape[1:])}"
            )
        if sum(sizes) != len(first) or len(sizes) != len(names):
            raise ValueError(f"{len(first)} examples, sizes for {sum(sizes)}, {len(sizes)} sizes and {len(names)} names")
        turns = 4 if rotations == "classes" else 1
        if groups and (sum(groups) != len(names) or min(groups) < 1):
            raise ValueError(f"groups of {list(groups)} classes, of {len(names)}")
        # Four turned copies cost memory (Omniglot: 100 MB) and make an episode one gather.
        turned = map_inputs(_all_turns, inputs) if rotations != "none" else inputs
        self.inputs = inputs
        self._turned = turned
        self._examples = len(first)
        self.rotations = rotations
        self.split = split
        self.augmentation = augmentation
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
        """Raise a UserError where ways, or shots and queries, exceed what the split holds."""
        classes, more = highest(spec.ways) + spec.distractors, ""
        if classes > self.num_classes:
            more = f" + episode.distractors={spec.distractors}" if spec.distractors else ""
            raise UserError(
                f"episode.ways={highest(spec.ways)}{more}: the {self.split} split has only {self.num_classes} classes"
            )
        if classes > (least := min(self.groups, default=len(self.names)) * (self.num_classes // len(self.names))):
            raise UserError(
                f"episode.ways={highest(spec.ways)}{more}: all classes of an episode are of one group, and one of the "
                f"{self.split} split's has only {least}"
            )
        need = highest(spec.shots) + spec.queries + spec.unlabelled
        smallest = min(range(len(self.class_sizes)), key=self.class_sizes.__getitem__)
        if need > self.class_sizes[smallest]:
            terms, numbers = "episode.shots + episode.queries", f"{highest(spec.shots)} + {spec.queries}"
            if spec.unlabelled:
                terms, numbers = f"{terms} + episode.unlabelled", f"{numbers} + {spec.unlabelled}"
            raise UserError(
                f"{terms} = {numbers} = {need}: class "
                f"{self.names[smallest]!r} of the {self.split} split has only {self.class_sizes[smallest]} examples"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest number of ways."""
        return highest(spec.ways)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; labels are the order in which the classes were drawn."""
        ways, shots = highest(spec.ways), highest(spec.shots)
        shown = self.draw_classes(stream, numbers, ways + spec.distractors)
        classes, base = shown[:, :ways], self._stored(shown[:, :ways])
        drawings = stream.without_replacement(numbers, self._sizes[base], shots + spec.queries, "drawings")
        rows = self._starts[base][..., None] + drawings  # (tasks, ways, shots + queries)
        turns = self._turns_of(stream, numbers, classes)
        labels = torch.arange(ways, device=numbers.device)[:, None].expand(len(numbers), ways, rows.shape[-1])
        support_mask, query_mask = episode_masks(stream, numbers, spec)

        def part(name: str, columns: slice, mask: Tensor | None) -> Examples:
            x = self._shown(stream, numbers, rows[..., columns], turns, name)
            return Examples(x, labels[..., columns].flatten(1), mask, ways)

        support, query = part("support", slice(0, shots), support_mask), part("query", slice(shots, None), query_mask)
        if spec.unlabelled:
            x, real = self._unlabelled(stream, numbers, spec, shown, drawings, support_mask)
            support = replace(support, unlabelled=x, unlabelled_mask=real)
        if support_mask is not None:
            classes = classes.masked_fill(~support_mask.view(*classes.shape, shots).any(-1), -1)
        return Tasks(support, query, numbers, classes)

    def _unlabelled(
        self, stream: Stream, numbers: Tensor, spec: EpisodeSpec, shown: Tensor, taken: Tensor, support_mask: Tensor | None
    ) -> tuple[Inputs, Tensor | None]:
        """(tasks, unlabelled, *input) further examples of the classes ``shown`` (tasks, ways + distractors), class by class.

        Those of a class of the episode are none of its examples ``taken`` (tasks, ways, examples). The mask (tasks, unlabelled)
        leaves out classes that an episode does not have.
        """
        base, ways = self._stored(shown), taken.shape[1]
        sizes = self._sizes[base]
        own = stream.without_replacement(numbers, sizes[:, :ways] - taken.shape[2], spec.unlabelled, "unlabelled")
        drawings = _past(own, taken)
        if spec.distractors:
            others = stream.without_replacement(numbers, sizes[:, ways:], spec.unlabelled, "distractors")
            drawings = torch.cat([drawings, others], 1)
        rows = self._starts[base][..., None] + drawings
        x = self._shown(stream, numbers, rows, self._turns_of(stream, numbers, shown), "unlabelled")
        if support_mask is None:
            return x, None
        present = support_mask.view(len(numbers), ways, -1).any(-1)
        real = torch.cat([present, present.new_ones(len(numbers), spec.distractors)], 1)
        return x, real.repeat_interleave(spec.unlabelled, 1)

    def _shown(self, stream: Stream, numbers: Tensor, rows: Tensor, turns: Tensor | None, part: str) -> Inputs:
        """(tasks, ways * examples, *input): the rows (tasks, ways, examples), turned by class and augmented one by one."""
        turn = None if turns is None else turns[..., None].expand(rows.shape).flatten(1)
        if self.augmentation is None:
            return self.gather(rows.flatten(1), turn)
        images = self._taken(rows.flatten(1), turn)
        assert isinstance(images, Tensor)
        return self.augmentation(images, stream, numbers, part)

    def _stored(self, classes: Tensor) -> Tensor:
        """Which stored class each class is."""
        return classes // 4 if self.rotations == "classes" else classes

    def draw_classes(self, stream: Stream, numbers: Tensor, ways: int) -> Tensor:
        """(tasks, ways) int64, distinct classes for every episode."""
        if not self.groups:
            total = torch.full((len(numbers), 1), self.num_classes, device=numbers.device)
            return stream.without_replacement(numbers, total, ways, "classes")[:, 0]
        group = stream.integers(numbers, 1, "group", len(self.groups))
        starts = self._group_sizes.cumsum(0) - self._group_sizes
        drawn = stream.without_replacement(numbers, self._group_sizes[group], ways, "classes")[:, 0]
        return starts[group] + drawn

    def gather(self, rows: Tensor, turns: Tensor | None = None) -> Inputs:
        """Examples by row of the pool: (tasks, examples) int64 to (tasks, examples, *input), images as floats in [0, 1].

        ``turns`` (tasks, examples) int64 says by how many quarters each is turned.
        """
        return as_read(self._taken(rows, turns))

    def _taken(self, rows: Tensor, turns: Tensor | None) -> Inputs:
        """As they are stored."""
        if turns is not None:
            rows = rows + turns * self._examples
        return map_inputs(lambda pool: pool.index_select(0, rows.flatten()).unflatten(0, rows.shape), self._turned)

    def _turns_of(self, stream: Stream, numbers: Tensor, classes: Tensor) -> Tensor | None:
        if self.rotations == "none":
            return None
        return classes % 4 if self.rotations == "classes" else stream.integers(numbers, classes.shape[1], "rotations", 4)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return self.of(map_inputs(lambda tensor: tensor.to(device), self.inputs))

    def of(self, inputs: Inputs) -> Self:
        """The same classes and episodes of other inputs: row for row what they are elsewhere, or what was made of them."""
        return type(self)(
            inputs,
            self.class_sizes,
            self.names,
            rotations=self.rotations,
            groups=self.groups,
            split=self.split,
            augmentation=self.augmentation,
        )


def as_read(stored: Inputs) -> Inputs:
    """What a model gets of stored examples (tasks, examples, *input): images as floats in [0, 1], whole numbers as int64."""

    def scaled(values: Tensor) -> Tensor:
        if values.is_floating_point():
            return values
        return values.float().div_(255.0) if values.dtype == torch.uint8 and values.ndim > 3 else values.long()

    return map_inputs(scaled, stored)


def _all_turns(images: Tensor) -> Tensor:
    """(4 * examples, ...): the images, then all of them turned by one, two and three quarters."""
    return torch.cat([images.rot90(turn, (-2, -1)) for turn in range(4)])


def _past(drawn: Tensor, taken: Tensor) -> Tensor:
    """The numbers ``drawn`` (..., m) of what is left when the items ``taken`` (..., n) are gone, as items of the whole."""
    for item in taken.sort(-1).values.unbind(-1):
        drawn = drawn + (drawn >= item[..., None]).to(drawn.dtype)
    return drawn


def episode_masks(stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> tuple[Tensor | None, Tensor | None]:
    """(tasks, ways * shots) and (tasks, ways * queries): which examples are real, where episodes differ in size; else Nones."""
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
    """A pool from one uint8 (examples, channels, height, width) tensor a class."""
    sizes = [len(stack) for stack in images.values()]
    return ClassPool(torch.cat(list(images.values())), sizes, list(images), rotations=rotations, split=split)
