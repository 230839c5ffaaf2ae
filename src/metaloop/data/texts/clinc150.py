"""CLINC150: 150 intents of ten domains, and queries that are out of scope (Larson et al. 2019, EMNLP)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.data.texts.tokens import Tokenizer
from metaloop.errors import UserError

CLINC150 = ORIGINS["clinc150"]
# Our choice: domains by alphabet, the first three for meta-test, the next two for meta-validation. The two of money, which
# are near each other, fall into one split.
DOMAINS = {
    "train": ("meta", "small_talk", "travel", "utility", "work"),
    "validation": ("home", "kitchen_and_dining"),
    "test": ("auto_and_commute", "banking", "credit_cards"),
}
SAMPLERS = ("any", "within_domain")
_PARTS = {"train": 100, "val": 20, "test": 30}  # of data_full.json, and how many texts of each intent
_OUTSIDE = {"validation": "oos_val", "test": "oos_test"}
_INTENTS = 15  # of a domain


class Clinc150(Texts):
    """15-intent domains of 150 texts an intent, whole domains held out.

    Meta-training: meta, small_talk, travel, utility, work; meta-validation: home, kitchen_and_dining; meta-test:
    auto_and_commute, banking, credit_cards. All three parts of the file, which divide the texts of every intent, are one here.

    Args:
        tokenizer: the model's; the program gives it.
        data_dir: the folder of ``data_full.json`` and ``domains.json``, or a zip archive of them; a folder that is not there
            is looked for as an archive, with .zip added.
        length: see :class:`Texts`.
        sampler: "any": an episode's intents are of all domains of the split; "within_domain": all of one.
        out_of_scope: further queries of each episode of meta-validation and meta-test that are of no intent at all, to be
            rejected; they change nothing else.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: an argument is not one of these.
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
            raise UserError(f"dataset.sampler={sampler!r}: one of {', '.join(SAMPLERS)}")
        if isinstance(out_of_scope, bool) or not isinstance(out_of_scope, int) or out_of_scope < 0:
            raise UserError(f"dataset.out_of_scope={out_of_scope!r}: queries of an episode, a whole number of at least 0")
        self._data_dir, self._sampler, self._asked = Path(data_dir), sampler, out_of_scope

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        texts, domains = read_intents(self._data_dir), read_domains(self._data_dir)
        found = {}
        for split, names in DOMAINS.items():
            intents = [intent for name in names for intent in domains[name]]
            groups = [_INTENTS] * len(names) if self._sampler == "within_domain" else []
            outside = self._outside(split)
            classes = {intent: texts[intent] for intent in intents}
            found[split] = TextSplit(classes, groups, outside, self._asked if outside else 0)
        return found

    def _outside(self, split: str) -> list[str]:
        """The out-of-scope texts of a split, where they are asked for."""
        if not self._asked or split == "train":
            return []
        file, part = read_text(self._data_dir, "data_full.json", CLINC150), _OUTSIDE[split]
        found = [text for texts in texts_of(file, file.json(), part).values() for text in texts]
        if self._asked > len(found):
            raise UserError(f"dataset.out_of_scope={self._asked}: {file.path} has only {len(found)} texts in {part}")
        return found


def read_domains(place: Path) -> Mapping[str, tuple[str, ...]]:
    """The intents of each domain; see :func:`domains_of`."""
    return domains_of(read_text(place, "domains.json", CLINC150))


def domains_of(file: TextFile) -> Mapping[str, tuple[str, ...]]:
    """The intents of each domain.

    Raises:
        UserError: this is not CLINC150's domains.json.
    """
    found = file.json()
    if not isinstance(found, dict) or set(found) != {name for names in DOMAINS.values() for name in names}:
        raise file.problem("not the ten domains of CLINC150")
    for name, intents in found.items():
        if not isinstance(intents, list) or len(set(map(str, intents))) != _INTENTS:
            raise file.problem(f"domain {name}: {_INTENTS} different intents are expected")
    return {name: tuple(intents) for name, intents in found.items()}


def read_intents(place: Path) -> Mapping[str, list[str]]:
    """The texts of each intent, in the order of the file's parts train, val and test.

    Raises:
        UserError: a file is missing or broken, or there are not 100, 20 and 30 texts of every intent.
    """
    file = read_text(place, "data_full.json", CLINC150)
    return intents_of(file, [intent for names in read_domains(place).values() for intent in names])


def intents_of(file: TextFile, intents: Sequence[str]) -> Mapping[str, list[str]]:
    """The same of an open file."""
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
    """How many texts a whole data_full.json has; raises a UserError for a broken one."""
    intents = sorted(texts_of(file, file.json(), "train"))
    expected = sum(_INTENTS for names in DOMAINS.values() for _ in names)
    if len(intents) != expected:
        raise file.problem(f"{len(intents)} intents, not {expected}")
    return sum(map(len, intents_of(file, intents).values()))


def texts_of(file: TextFile, content: object, part: str) -> dict[str, list[str]]:
    """The texts of one part of the file, by intent."""
    if not isinstance(content, dict) or not isinstance(content.get(part), list):
        raise file.problem(f"no list named {part}: this is not CLINC150's data_full.json")
    found: dict[str, list[str]] = {}
    for number, pair in enumerate(content[part]):
        key = f"{part}[{number}]"
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
            raise file.problem(f"{key}: a pair of text and intent is expected, not {str(pair)[:40]!r}")
        found.setdefault(pair[1], []).append(file.sentence(pair[0], key=key))
    return found
