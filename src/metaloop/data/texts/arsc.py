"""ARSC: sentiment of Amazon reviews, two classes a task (Yu et al. 2018, NAACL; reviews of Blitzer et al. 2007)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.errors import UserError
from metaloop.types import Tokenizer

_THRESHOLDS = ("t2", "t4", "t5")  # numbers of stars that separate positive from negative reviews
_LABELS = {"-1": "negative", "1": "positive"}
_VALIDATION = 4  # domains for meta-validation


class ARSC(Texts):
    """Reviews of 23 product domains with three tasks each; an episode has the two classes of one task.

    The domains in ``workspace.target.list`` (books, dvd, electronics, kitchen_housewares) are for meta-test, the others in
    ``workspace.filtered.list`` for meta-training. The last four of these in alphabetical order are for meta-validation (our
    choice). Deviation from the paper: the support examples of a meta-test task are drawn from its .train and .test files
    together; the paper always uses the ten reviews of .train.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        data_dir: folder or zip archive with the lists and the files ``<domain>.<t2, t4 or t5>.<train, dev or test>``.
        length: see :class:`Texts`.
        exclude: tasks to leave out, such as those with too few reviews of a class.
        cache_dir: see :class:`Texts`.
    """

    def __init__(
        self, tokenizer: Tokenizer, data_dir: str, length: int, exclude: Sequence[str] = (), cache_dir: str | None = None
    ) -> None:
        super().__init__(tokenizer, length, cache_dir)
        self._data_dir, self._exclude = Path(data_dir), tuple(exclude)

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        domains, target = (self._domains(f"workspace.{name}.list") for name in ("filtered", "target"))
        others = sorted(set(domains) - set(target))
        if len(others) <= _VALIDATION:
            path = self._data_dir / "workspace.filtered.list"
            raise ORIGINS["arsc"].problem(path, f"only {len(others)} domains that are not for meta-test")
        tasks = {f"{domain}.{threshold}" for domain in (*others, *target) for threshold in _THRESHOLDS}
        if unknown := sorted(set(self._exclude) - tasks):
            raise UserError(f"dataset.exclude: no task {unknown[0]!r}; an example of a task name is {min(tasks)}")
        return {
            "train": self._tasks(others[:-_VALIDATION], ("train", "dev", "test")),
            "validation": self._tasks(others[-_VALIDATION:], ("train", "dev", "test")),
            "test": self._tasks(sorted(target), ("train", "test")),
        }

    def _domains(self, name: str) -> list[str]:
        file = read_text(self._data_dir, name, ORIGINS["arsc"])
        domains = file.text.split()
        if not domains:
            raise file.problem("names no domain")
        return domains

    def _tasks(self, domains: Sequence[str], parts: Sequence[str]) -> TextSplit:
        names = [f"{domain}.{threshold}" for domain in domains for threshold in _THRESHOLDS]
        names = [name for name in names if name not in self._exclude]
        classes: dict[str, list[str]] = {}
        for name in names:
            classes |= {f"{name} {label}": [] for label in _LABELS.values()}
            for part in parts:
                self._add_reviews(f"{name}.{part}", name, classes)
            for label in _LABELS.values():
                if not classes[f"{name} {label}"]:
                    raise ORIGINS["arsc"].problem(self._data_dir, f"task {name}: no {label} reviews")
        return TextSplit(classes, [len(_LABELS)] * len(names))

    def _add_reviews(self, name: str, task: str, classes: dict[str, list[str]]) -> None:
        """Add the reviews of a file to the two classes of its task."""
        file = read_text(self._data_dir, name, ORIGINS["arsc"])
        for line, content in enumerate(file.text.split("\n"), 1):
            if not content.strip():
                continue
            text, _, label = content.rstrip("\r").rpartition("\t")
            if label.strip() not in _LABELS:
                raise file.problem(f"must be a review, a tab, and 1 or -1, not {content[-40:]!r}", line)
            classes[f"{task} {_LABELS[label.strip()]}"].append(file.sentence(text, line))
