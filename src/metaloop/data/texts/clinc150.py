"""CLINC150: 150 intents of ten domains, and out-of-scope queries (Larson et al. 2019, EMNLP)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.errors import UserError
from metaloop.types import Tokenizer

CLINC150 = ORIGINS["clinc150"]
# Our choice: in alphabetical order, the first three domains are for meta-test and the next two for meta-validation. The two
# related domains about money are then in the same split.
DOMAINS = {
    "train": ("meta", "small_talk", "travel", "utility", "work"),
    "validation": ("home", "kitchen_and_dining"),
    "test": ("auto_and_commute", "banking", "credit_cards"),
}
SAMPLERS = ("any", "within_domain")
_PARTS = {"train": 100, "val": 20, "test": 30}  # parts of data_full.json, with their number of texts of each intent
_OUT_OF_SCOPE = {"validation": "oos_val", "test": "oos_test"}
_INTENTS = 15  # intents of a domain


class Clinc150(Texts):
    """Intents as classes, with 150 texts each. Each domain of 15 intents is in one split.

    Meta-training: meta, small_talk, travel, utility, work; meta-validation: home, kitchen_and_dining; meta-test:
    auto_and_commute, banking, credit_cards. The three parts of the file divide the texts of every intent; they are joined.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        data_dir: folder or zip archive with ``data_full.json`` and ``domains.json``. If the folder does not exist, an archive
            of that name with .zip added is read.
        length: see :class:`Texts`.
        sampler: "any" draws an episode's intents from all domains of the split, "within_domain" from a single domain.
        out_of_scope: number of out-of-scope texts in each episode of meta-validation and meta-test, as further queries that
            should be rejected. They change nothing else.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        data_dir: str,
        length: int = 32,
        sampler: str = "any",
        out_of_scope: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(tokenizer, length, cache_dir)
        if sampler not in SAMPLERS:
            raise UserError(f"dataset.sampler={sampler!r} must be one of {', '.join(SAMPLERS)}")
        if isinstance(out_of_scope, bool) or not isinstance(out_of_scope, int) or out_of_scope < 0:
            raise UserError(f"dataset.out_of_scope={out_of_scope!r} must be a whole number of queries, at least 0")
        self._data_dir, self._sampler, self._rejections = Path(data_dir), sampler, out_of_scope

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        texts, domains = read_intents(self._data_dir), read_domains(self._data_dir)
        splits = {}
        for split, names in DOMAINS.items():
            intents = [intent for name in names for intent in domains[name]]
            groups = [_INTENTS] * len(names) if self._sampler == "within_domain" else []
            out_of_scope = self._out_of_scope(split)
            classes = {intent: texts[intent] for intent in intents}
            splits[split] = TextSplit(classes, groups, out_of_scope, self._rejections if out_of_scope else 0)
        return splits

    def _out_of_scope(self, split: str) -> list[str]:
        """The out-of-scope texts of a split; empty if none are requested."""
        if not self._rejections or split == "train":
            return []
        file, part = read_text(self._data_dir, "data_full.json", CLINC150), _OUT_OF_SCOPE[split]
        result = [text for texts in texts_of(file, file.json(), part).values() for text in texts]
        if self._rejections > len(result):
            raise UserError(f"dataset.out_of_scope={self._rejections}: {file.path} has only {len(result)} texts in {part}")
        return result


def read_domains(place: Path) -> Mapping[str, tuple[str, ...]]:
    """Read the intents of each domain; see :func:`domains_of`."""
    return domains_of(read_text(place, "domains.json", CLINC150))


def domains_of(file: TextFile) -> Mapping[str, tuple[str, ...]]:
    """Parse the intents of each domain.

    Raises:
        UserError: the file is not CLINC150's domains.json.
    """
    domains = file.json()
    if not isinstance(domains, dict) or set(domains) != {name for names in DOMAINS.values() for name in names}:
        raise file.problem("does not list the ten domains of CLINC150")
    for name, intents in domains.items():
        if not isinstance(intents, list) or len(set(map(str, intents))) != _INTENTS:
            raise file.problem(f"domain {name} must have {_INTENTS} different intents")
    return {name: tuple(intents) for name, intents in domains.items()}


def read_intents(place: Path) -> Mapping[str, list[str]]:
    """Read the texts of each intent, in the order of the file's parts train, val and test.

    Raises:
        UserError: a file is missing or broken, or the parts do not have 100, 20 and 30 texts of every intent.
    """
    file = read_text(place, "data_full.json", CLINC150)
    return intents_of(file, [intent for names in read_domains(place).values() for intent in names])


def intents_of(file: TextFile, intents: Sequence[str]) -> Mapping[str, list[str]]:
    """Parse the texts of the given intents from data_full.json; see :func:`read_intents`."""
    content = file.json()
    texts: dict[str, list[str]] = {intent: [] for intent in intents}
    for part, count in _PARTS.items():
        added = texts_of(file, content, part)
        for intent in intents:
            if len(added.get(intent, ())) != count:
                raise file.problem(f"part {part}: {len(added.get(intent, ()))} texts of {intent}, not {count}")
            texts[intent] += added[intent]
    return texts


def check_intents(file: TextFile) -> int:
    """Check a complete data_full.json and return its number of texts.

    Raises:
        UserError: the file is broken or incomplete.
    """
    intents = sorted(texts_of(file, file.json(), "train"))
    expected = sum(_INTENTS for names in DOMAINS.values() for _ in names)
    if len(intents) != expected:
        raise file.problem(f"{len(intents)} intents, not {expected}")
    return sum(map(len, intents_of(file, intents).values()))


def texts_of(file: TextFile, content: object, part: str) -> dict[str, list[str]]:
    """Parse the texts of one part of data_full.json, by intent."""
    if not isinstance(content, dict) or not isinstance(content.get(part), list):
        raise file.problem(f"no list named {part}: this is not CLINC150's data_full.json")
    texts: dict[str, list[str]] = {}
    for number, pair in enumerate(content[part]):
        key = f"{part}[{number}]"
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
            raise file.problem(f"{key} must be a pair of text and intent, not {str(pair)[:40]!r}")
        texts.setdefault(pair[1], []).append(file.sentence(pair[0], key=key))
    return texts
