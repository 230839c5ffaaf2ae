"""The one-shot classification task of the Omniglot challenge: 20 fixed runs with 20 characters of one alphabet each."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset, TaskDistribution, check_split
from metaloop.data.files.archives import RESAMPLING
from metaloop.data.images.omniglot import check_side
from metaloop.data.images.omniglot_archives import RUNS, WAYS, read_runs
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.types import EpisodeSpec, Examples, Tasks


class ChallengeRuns(TaskDistribution):
    """The 20 runs as episodes: episode *i* is run *i + 1*, whatever the seed. Class and query *c* are ``class<c + 1>``.

    Args:
        training: (20, 20, 1, side, side) uint8, one drawing of each character.
        test: the same shape, drawings of the same characters by another person.
    """

    problem = Classification()
    episodes = RUNS
    spec = EpisodeSpec(ways=WAYS, shots=1, queries=1)

    def __init__(self, training: Tensor, test: Tensor) -> None:
        self._training = training
        self._test = test
        self._labels = torch.arange(WAYS, device=training.device)
        self.input_shape = tuple(training.shape[2:])

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless the size is the one that all runs have."""
        if (spec.ways, spec.shots, spec.queries) != (WAYS, 1, 1):
            raise UserError(
                f"episode.ways={spec.ways} shots={spec.shots} queries={spec.queries}: the runs of the Omniglot challenge "
                f"have ways={WAYS}, shots=1 and queries=1; add episode=omniglot_challenge"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """The 20 ways."""
        return WAYS

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`. Numbers are below 20, and nothing is random."""
        labels = self._labels.expand(len(numbers), WAYS)

        def part(images: Tensor) -> Examples:
            return Examples(images[numbers].float().div_(255.0), labels, ways=WAYS)

        return Tasks(part(self._training), part(self._test), numbers)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self._training.to(device), self._test.to(device))


class OmniglotChallenge(Dataset):
    """One-shot classification within an alphabet (Lake et al. 2015; Lake et al. 2019 have the rules and published results).

    The characters are from the evaluation alphabets. They are new only to a learner that was trained on background alphabets,
    as with ``dataset.split_scheme=lake``, ``minimal1`` or ``minimal2``. The error rate of the papers is 1 - accuracy.

    Args:
        data_dir: folder with ``all_runs.zip``.
        side: side of the images in pixels, as in training.
        resample: "lanczos" or "nearest", as in training.

    Raises:
        UserError: an argument has a value that is not allowed.
    """

    def __init__(self, data_dir: str, side: int = 28, resample: str = "lanczos") -> None:
        if resample not in RESAMPLING:
            raise UserError(f"dataset.resample={resample!r} must be one of {', '.join(RESAMPLING)}")
        check_side(side)
        self._path = Path(data_dir).expanduser() / "all_runs.zip"
        self._side, self._resample = side, resample
        self._runs: ChallengeRuns | None = None

    def split(self, name: str) -> ChallengeRuns:
        """See :meth:`Dataset.split`. There is only a test split."""
        check_split(name)
        if name != "test":
            raise UserError(
                f"dataset=omniglot_challenge has no {name} split: train with dataset=omniglot, then evaluate on this data set"
            )
        if self._runs is None:
            runs = read_runs(self._path, self._side, self._resample)
            self._runs = ChallengeRuns(*(torch.from_numpy(images)[:, :, None] for images in runs))
        return self._runs
