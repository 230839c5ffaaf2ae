"""Text data sets with official download addresses: the files to fetch, and the checks of their contents."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from metaloop.data.files.source_files import Source, SourceFile
from metaloop.data.texts.clinc150 import check_intents, domains_of
from metaloop.data.texts.fewrel import MARKS, read_relations
from metaloop.data.texts.news import NEWS, news_texts
from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import read_file, read_text

_CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/master/data"
_POLYAI = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data"
_DOPIERRE = "https://raw.githubusercontent.com/tdopierre/ProtAugment/6352ababa740133708daed815666b5bf39850d98/data/HWU64"
_THUNLP = "https://raw.githubusercontent.com/thunlp/FewRel/master/data"
_BAO = "https://people.csail.mit.edu/yujia/files/distributional-signatures/data.zip"
# Parts of the data sets, with the number of texts, classes or relations in each.
_BANKING = (("train", 10_003), ("test", 3_080))
_HWU = (("train", 16), ("valid", 23), ("test", 25))
_FEWREL = (("train", 64), ("val", 16))


def _intents(path: Path) -> str:
    return f"{check_intents(read_file(path, ORIGINS['clinc150'])):,} texts of 150 intents"


def _domains(path: Path) -> str:
    return f"{len(domains_of(read_file(path, ORIGINS['clinc150'])))} domains"


def _news(path: Path) -> str:
    sizes = []
    for name, expected in NEWS.items():
        texts = news_texts(read_text(path, f"{name}.json", ORIGINS["news_fewshot"]), expected)
        sizes.append(f"{name} {sum(map(len, texts)):,} texts of {len(texts)} classes")
    return ", ".join(sizes)


def _rows(name: str, columns: Sequence[str], least: int, path: Path) -> str:
    """Check that every row has a text and a label (the two ``columns``), and that there are at least ``least`` rows."""
    file, classes, count = read_file(path, ORIGINS[name]), set(), 0
    rows = file.csv_rows() if columns[1] == "category" else file.json_lines()
    for count, (line, row) in enumerate(rows, 1):  # noqa: B007 -- read after the loop
        file.sentence(file.field(row, columns[0], line), line)
        classes.add(file.field(row, columns[1], line))
    if count < least:
        raise file.problem(f"{count:,} texts, at least {least:,} are expected")
    return f"{count:,} texts of {len(classes)} classes"


def _names(count: int, path: Path) -> str:
    file = read_file(path, ORIGINS["hwu64"])
    names = sum(bool(line.strip()) for line in file.lines())
    if names != count:
        raise file.problem(f"{names} classes, not {count}")
    return f"{names} classes"


def _relations(count: int, path: Path) -> str:
    file = read_file(path, ORIGINS["fewrel"])
    sentences = read_relations(file, MARKS)
    if len(sentences) != count:
        raise file.problem(f"{len(sentences)} relations, not {count}")
    return f"{sum(map(len, sentences.values())):,} sentences of {count} relations"


def _source(
    name: str, title: str, place: str, *files: tuple[str, str, float | None, Callable[[Path], str]], instead: str = ""
) -> tuple[str, Source]:
    return name, Source(ORIGINS[name], title, tuple(SourceFile(*file) for file in files), place, instead)


TEXT_SOURCES = dict(
    (
        _source(
            "clinc150",
            "CLINC150 (Larson et al. 2019)",
            "text/clinc150",
            ("data_full.json", f"{_CLINC}/data_full.json", 2.5, _intents),
            ("domains.json", f"{_CLINC}/domains.json", 0.1, _domains),
            instead="text/clinc150.zip",
        ),
        _source(
            "news_fewshot",
            "HuffPost and Reuters as divided by Bao et al. 2020",
            "text",
            ("news_fewshot.zip", _BAO, None, _news),
        ),
        _source(
            "banking77",
            "BANKING77 (Casanueva et al. 2020)",
            "text/banking77",
            *(
                (f"{p}.csv", f"{_POLYAI}/{p}.csv", 0.8, partial(_rows, "banking77", ("text", "category"), n))
                for p, n in _BANKING
            ),
        ),
        _source(
            "hwu64",
            "HWU64 (Liu et al. 2019) with the first split of Dopierre et al. 2021",
            "text/hwu64",
            ("full.jsonl", f"{_DOPIERRE}/full.jsonl", 0.9, partial(_rows, "hwu64", ("sentence", "label"), 11_000)),
            *((f"labels.{p}.txt", f"{_DOPIERRE}/few_shot/01/labels.{p}.txt", 0.1, partial(_names, n)) for p, n in _HWU),
        ),
        _source(
            "fewrel",
            "FewRel (Han et al. 2018)",
            "text/fewrel",
            *((f"{p}_wiki.json", f"{_THUNLP}/{p}_wiki.json", None, partial(_relations, n)) for p, n in _FEWREL),
        ),
    )
)
