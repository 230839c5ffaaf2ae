"""``metaloop predict``: finished runs adapted to texts, pictures and tables of one's own."""

import csv
import hashlib
import json
import shutil
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from limited_files import files_limited_to
from metaloop.cli.main import main
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError
from metaloop.evaluation.adapted_model import adapt_to, load_model
from metaloop.evaluation.evaluate import evaluate
from metaloop.records.directory import describe
from metaloop.runs.start import run_rank
from small_runs import described, rows

Captured = pytest.CaptureFixture[str]
SMALL = (
    "name=small",
    "algorithm/over_tasks=loop",
    "episode.shots=2",
    "episode.queries=2",
    "outer.meta_batch=2",
    "trainer.max_steps=2",
    "validation.every=2",
    "validation.episodes=2",
    "evaluation.episodes=2",
)


def trained(directory: Path, *overrides: str) -> None:
    identity = described(*SMALL, *overrides)
    directory.mkdir()
    describe(directory, identity, "")
    run_rank(identity, directory, resume=False)


def write(path: Path, table: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)
    return path


def sentences(labels: Sequence[str], count: int) -> list[list[str]]:
    """Texts of two words that nobody else says and a number."""
    return [[f"{label}ing the {label}er {number}", label] for label in labels for number in range(count)]


def own(folder: Path, labels: Sequence[str], count: int, first: int = 0) -> Path:
    """Noise about a colour for each class, a folder each, of different sizes."""
    for number, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for each in range(first, first + count):
            noise = np.random.default_rng([number, each]).integers(0, 60, (9 + each, 12, 3))
            Image.fromarray((noise + np.array([90 * number % 195, 190 - 90 * number % 195, 60])).astype(np.uint8)).save(
                folder / label / f"{each}.png"
            )
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on texts, on pictures and two on tables."""
    place = tmp_path_factory.mktemp("predicting")
    write(place / "texts.csv", [["text", "label"], *sentences(list("abcdefghi"), 7)])
    own(place / "pictures", list("abcdefg"), 7)
    texts = ("dataset=text_files", f"dataset.data_dir={place}", "dataset.files=texts.csv", "model=tfidf", "model.size=256")
    two = "episode.ways=2"
    trained(place / "texts", *texts, "algorithm=nearest_centroid", "dataset.length=8", two)
    pictures = (
        "dataset=image_folder",
        f"dataset.path={place / 'pictures'}",
        "dataset.side=8",
        "dataset.decoders=0",
        "dataset.classes={train: 1, validation: 1, test: 1}",
    )
    trained(place / "images", *pictures, "model=mlp", "model.hidden=[8]", "algorithm=anil", "episode.ways=2")
    table = ("dataset=tabular", "model=mlp", "model.hidden=[8]", "algorithm=maml", two, "model.norm=none")
    trained(place / "table", *table)
    named = "{train: [diabetes], validation: [diabetes], test: [diabetes]}"
    target = ("dataset=tabular_regression", f"dataset.tables={named}", "model=mlp", "model.hidden=[8]", "algorithm=cnp")
    trained(place / "target", *target, "episode=regression")
    return place


def predicted(argv: Sequence[object], out: Path) -> list[dict[str, str]]:
    assert main(["predict", *map(str, argv), f"out={out}"]) == 0
    return rows(out)


def refused(capsys: Captured, *argv: object) -> str:
    capsys.readouterr()
    assert main(["predict", *map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def same(first: Sequence[dict[str, str]], second: Sequence[dict[str, str]]) -> None:
    """Equal but for 1e-6 of what is a number."""
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name in ("row", "input", "label"):
                assert value == other[name]
            else:
                assert float(value) == pytest.approx(float(other[name]), abs=1e-6)


def test_texts_of_more_classes_and_uneven_shots_and_the_kept_model_says_the_same(
    runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    support = write(tmp_path / "s.csv", [["question", "intent"], *sentences(list("vwxy"), 3), ["zing", "z"]])
    query = write(tmp_path / "q.csv", [["intent", "question"], *([label, text] for text, label in sentences(list("wz"), 5))])
    names = ("text=question", "label=intent")
    first = predicted(
        [f"run={runs / 'texts'}", f"support={support}", f"query={query}", f"save={tmp_path / 'kept'}", *names],
        tmp_path / "1.csv",
    )
    said = capsys.readouterr().out
    assert "accuracy            100.00, between 72.25 and 100.00 %  (95 % interval, 10 labelled)" in said
    assert "5 classes, 1 to 3 examples of each" in said
    assert "in the support set  3 of the queries" in said
    assert [row["label"] for row in first] == ["w"] * 5 + ["z"] * 5
    assert sum(float(first[0][f"p({name})"]) for name in "vwxyz") == pytest.approx(1, abs=1e-5)
    support.unlink()
    shutil.move(runs / "texts", runs / "moved")  # the kept model needs neither
    try:
        same(first, predicted([f"model={tmp_path / 'kept'}", f"query={query}"], tmp_path / "2.csv"))
    finally:
        shutil.move(runs / "moved", runs / "texts")
    told = json.loads((tmp_path / "2.json").read_text())
    assert told["run"] == str(runs / "texts")
    assert told["step"] == 1
    assert told["support"]["classes"] == {"v": 3, "w": 3, "x": 3, "y": 3, "z": 1}
    assert (told["score"]["mean"], told["score"]["n"]) == (1.0, 10)


def test_lines_of_texts_and_a_place_of_their_own(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    support = write(tmp_path / "s.csv", [["text", "label"], *sentences(list("uv"), 2)])
    (tmp_path / "q.txt").write_text("the ving\nuing\n")
    assert main(["predict", f"run={runs / 'texts'}", f"support={support}", f"query={tmp_path / 'q.txt'}"]) == 0
    (found,) = (runs / "texts" / "predictions").glob("*/predictions.csv")
    assert [(row["input"], row["label"]) for row in rows(found)] == [("the ving", "v"), ("uing", "u")]
    assert "accuracy" not in capsys.readouterr().out


def test_pictures_from_a_folder_an_archive_and_a_list(runs: Path, tmp_path: Path) -> None:
    support, query = own(tmp_path / "own", ["x", "y"], 5), own(tmp_path / "new", ["x", "y"], 2, first=20)
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", support)
    run, steps = f"run={runs / 'images'}", "steps=20"
    save = f"save={tmp_path / 'kept'}"
    first = predicted([run, f"support={support}", f"query={query}", steps, save], tmp_path / "1.csv")
    assert [row["label"] for row in first] == ["x", "x", "y", "y"]
    same(first, predicted([run, f"support={archive}", f"query={query}", steps], tmp_path / "2.csv"))
    same(first, predicted([f"model={tmp_path / 'kept'}", f"query={query}"], tmp_path / "3.csv"))
    listed = write(tmp_path / "list.csv", [["path"], *([f"new/{row['input']}"] for row in first)])
    found = predicted([f"model={tmp_path / 'kept'}", f"query={listed}"], tmp_path / "4.csv")
    same([row | {"input": f"new/{row['input']}"} for row in first], found)


def test_the_kept_model_of_a_learner_that_takes_steps_has_taken_them(runs: Path, tmp_path: Path) -> None:
    support = write(tmp_path / "s.csv", [["a", "b", "label"], [1, 5, "n"], [2, "", "n"], [6, 5, "m"], [7, 4, "m"], [8, 4, "m"]])
    query = write(tmp_path / "q.csv", [["b", "a"], [4, 7], [5, 1]])
    model = adapt_to(runs / "table", support, steps=30)
    model.save(tmp_path / "kept")
    saved = torch.load(tmp_path / "kept" / "adapted.pt", weights_only=True)
    assert saved["adapted"].keys() == dict(model.learner.model.named_parameters()).keys()
    found = model.predict(query)
    assert found.labels == ["m", "n"]
    loaded = load_model(tmp_path / "kept")
    again = loaded.predict(query)
    assert found.probabilities is not None
    assert again.probabilities is not None
    assert torch.equal(again.probabilities, found.probabilities)
    saved["adapted"] = {name: torch.zeros_like(value) for name, value in saved["adapted"].items()}
    torch.save(saved, tmp_path / "kept" / "adapted.pt")
    level = load_model(tmp_path / "kept").predict(query).probabilities
    assert level is not None
    assert level.flatten().tolist() == [0.5] * 4  # what was kept is what answers


def test_examples_in_memory_are_answered_as_those_of_files(runs: Path, tmp_path: Path) -> None:
    model = adapt_to(runs / "texts", write(tmp_path / "s.csv", TEXT))
    assert model.predict(["a ping", "a pong"]).labels == ["p", "q"]
    with pytest.raises(UserError, match="example 0 of shape"):
        model.predict([3.0])
    pictures = own(tmp_path / "own", ["x", "y"], 5)
    seen = adapt_to(runs / "images", pictures, steps=20)
    files = sorted((pictures / "x").glob("*.png"))
    from_memory = seen.predict([np.asarray(Image.open(path)) for path in files]).probabilities
    from_files = seen.predict(pictures / "x").probabilities
    assert from_memory is not None
    assert from_files is not None
    assert torch.equal(from_memory, from_files)
    support = write(tmp_path / "t.csv", [["a", "b", "label"], [1, 5, "n"], [2, "", "n"], [6, 5, "m"], [7, 4, "m"]])
    table = adapt_to(runs / "table", support, steps=30)
    asked = write(tmp_path / "q.csv", [["b", "a"], [4, 7], ["", 1]])
    assert table.predict(np.array([[7, 4], [1, np.nan]])).labels == table.predict(asked).labels
    with pytest.raises(UserError, match=r"must be numbers \(rows, 2\), with the columns a, b"):
        table.predict([[1.0, 2.0, 3.0]])


def test_B14_a_table_with_texts_and_dates_from_a_file_in_memory_and_kept(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    cells = [["a", 1, True, "red"], ["b", 2, False, "blue"], ["c", 1, True, "red"], ["d", 2, False, "teal"], ["e", 3, True, ""]]
    rows = [[*row, "nm"[k % 2]] for k, row in enumerate(cells)]
    support = write(tmp_path / "s.csv", [["id", "n", "on", "color", "label"], *rows])
    query = write(tmp_path / "q.csv", [["color", "on", "n"], ["red", "TRUE", 1], ["teal", "false", 2]])
    run = [f"run={runs / 'table'}", f"support={support}", "ignore=id", "steps=30"]
    first = predicted([*run, f"query={query}", f"save={tmp_path / 'kept'}"], tmp_path / "1.csv")
    assert [row["label"] for row in first] == ["n", "m"]
    same(first, predicted([f"model={tmp_path / 'kept'}", f"query={query}"], tmp_path / "2.csv"))
    model = load_model(tmp_path / "kept")
    assert model.predict([[1, True, "red"], [2, False, "teal"]]).labels == ["n", "m"]


def test_a_regression_answers_in_the_users_unit_with_its_uncertainty(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    support = write(tmp_path / "s.csv", [["size", "price"], *([k, 1000 + 10 * k] for k in range(8)), [3, 1031]])
    query = write(tmp_path / "q.csv", [["size", "price"], [3, 1030], [9, ""], [4, "dear"]])
    save = f"save={tmp_path / 'kept'}"
    first = predicted(
        [f"run={runs / 'target'}", f"support={support}", f"query={query}", "label=price", save], tmp_path / "1.csv"
    )
    assert all(900 < float(row["mean"]) < 1200 and 0 < float(row["standard_deviation"]) < 100 for row in first)
    said = capsys.readouterr().out
    assert "mean squared error" in said
    assert "1 of the queries, with labels that are not finite numbers: 'dear'" in said
    same(first, predicted([f"model={tmp_path / 'kept'}", f"query={query}"], tmp_path / "2.csv"))


TEXT = [["text", "label"], ["one ping", "p"], ["two pong", "q"]]


@pytest.mark.parametrize(
    ("support", "query", "expected"),
    [
        ([["text", "label"], ["one", "p"], ["two", "p"]], TEXT, "1 class (p), at least 2"),
        ([["txt", "label"], ["one", "p"]], TEXT, "no column 'text'; set text= to one of 'txt', 'label'"),
        ([["text", "class"], ["one", "p"]], TEXT, "no column 'label'; set label= to one of 'text', 'class'"),
        ([*TEXT, ["three", ""]], TEXT, "'three' has no label"),
        ([*TEXT, [" ", "p"]], TEXT, "line 4: an empty text"),
        ([*TEXT, ["one ping", "q"]], TEXT, "'one ping' has two labels, 'p' and 'q'"),
        ([["text", "label"]], TEXT, "no rows"),
        (TEXT, [["label"], ["p"]], "no column 'text'; set text= to one of 'label'"),
        ([["text", "label", "label"], ["one", "p", "q"]], TEXT, "line 1: column 'label' is named twice"),
        (TEXT, [["text"]], "no rows"),
    ],
)
def test_texts_that_give_no_task_are_refused(
    support: list[list[str]], query: list[list[str]], expected: str, runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    files = [f"support={write(tmp_path / 's.csv', support)}", f"query={write(tmp_path / 'q.csv', query)}"]
    said = refused(capsys, f"run={runs / 'texts'}", *files, f"out={tmp_path / 'o.csv'}")
    assert expected in said
    assert not (tmp_path / "o.csv").exists()


def test_tables_and_pictures_that_give_no_task_are_refused(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    good = write(tmp_path / "s.csv", [["a", "b", "label"], [1, 2, "n"], [2, 3, "m"]])
    table = f"run={runs / 'table'}"
    for content, expected in (
        (
            [["a", "b", "label"], [1, 3, "n"], [1, "x", "n"]],
            "line 3: column 'b' must hold a finite number such as 12, -0.5 or 1e-3, or nothing, not 'x'",
        ),
        ([["label"], ["n"], ["m"]], "no features"),
        ([["a", "label"], [1, "n"], [2, "m"], [3, "o"]], "has 3 classes. episode.ways=3: the model's head was made for 2 ways"),
        ([[*map(str, range(70)), "label"], [*range(70), "n"]], "70 features, but the widest table of the run has 64"),
    ):
        bad = write(tmp_path / "bad.csv", content)
        assert expected in refused(capsys, table, f"support={bad}", f"query={good}")
    other = write(tmp_path / "q.csv", [["a", "c"], [1, 2]])
    assert "lacks 'b' and also has 'c'" in refused(capsys, table, f"support={good}", f"query={other}")
    price = write(tmp_path / "p.csv", [["a", "label"], [1, "dear"]])
    assert "must be a finite number such as 12, -0.5 or 1e-3, not 'dear'" in refused(
        capsys, f"run={runs / 'target'}", f"support={price}", f"query={price}"
    )
    text = write(tmp_path / "text.csv", TEXT)
    said = refused(capsys, f"run={runs / 'texts'}", f"support={text}", f"query={text}", "ignore=label")
    assert "ignore= and categories= name columns of a table" in said
    pictures = own(tmp_path / "own", ["x", "y"], 2)
    (pictures / "y" / "broken.png").write_bytes(b"no picture")
    images = f"run={runs / 'images'}"
    assert "y/broken.png" in refused(capsys, images, f"support={pictures}", f"query={pictures}")
    shutil.copy(pictures / "x" / "0.png", pictures / "stray.png")
    assert "stray.png is not in a folder" in refused(capsys, images, f"support={pictures}", f"query={pictures}")
    gone = write(tmp_path / "l.csv", [["path", "label"], ["nowhere.png", "x"]])
    assert "there is no image" in refused(capsys, images, f"support={gone}", f"query={gone}")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["support=s.csv"], "name one of run=DIR"),
        (["run=a", "model=b"], "name one of run=DIR"),
        (["run=a", "query=q.csv"], "support=FILE is needed"),
        (["run=a", "support=s.csv"], "query=FILE is needed"),
        (["run=a", "suport=s.csv"], "did you mean support?"),
        (["run=a", "run=b"], "given a second time"),
        (["run="], "a value is needed"),
        (["model=a", "query=q", "steps=3"], "adapted already"),
        (["run=a", "support=s", "query=q", "steps=0"], "at least 1"),
        (["run=a", "support=s", "query=q", "out=o.txt"], "ends in .csv"),
        (["run=a", "support=s.csv", "query=q.csv", "out=q.csv"], "which is query=q.csv"),
        (["run=a", "support=s.json", "query=q.csv", "out=s.csv"], "writes s.json, which is support=s.json"),
        (["run=a", "support=s", "query=q", "out=kept.csv", "save=kept.json"], "which is save=kept.json"),
        (["run=a", "support=s", "query=q", "save=."], "exists already"),
        (["run=.", "support=s.csv", "query=q.csv"], "is no run directory"),
        (["model=.", "query=q.csv"], "holds no adapted model"),
    ],
)
def test_words_that_do_not_go_together_are_refused(argv: list[str], expected: str, capsys: Captured) -> None:
    assert expected in refused(capsys, *argv)


def test_labels_of_a_query_change_nothing(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    support = write(tmp_path / "s.csv", [["text", "label"], ["one ping", "1.0"], ["a ping", "1"], ["two pong", "2.0"]])
    rest = [["ping", ""], ["pong", ""], ["pong", ""], ["pong", ""]]
    query = write(tmp_path / "q.csv", [["text", "label"], *rest])
    run = [f"run={runs / 'texts'}", f"support={support}", f"query={query}"]
    bare = predicted(run, tmp_path / "1.csv")
    assert [row["label"] for row in bare] == ["1", "2", "2", "2"]
    assert json.loads((tmp_path / "1.json").read_text())["score"] is None
    labels = ("1.0", "2", "1", "other")
    write(query, [["text", "label"], *([text, label] for (text, _), label in zip(rest, labels, strict=True))])
    capsys.readouterr()
    assert predicted(run, tmp_path / "2.csv") == bare
    told = json.loads((tmp_path / "2.json").read_text())
    assert (told["score"]["mean"], told["score"]["n"], told["not_scored"]) == (pytest.approx(2 / 3), 3, 1)
    assert "1 of the queries, with labels that the support set does not have: 'other'" in capsys.readouterr().out
    assert told["query"]["sha256"] == hashlib.sha256(query.read_bytes()).hexdigest()


def test_only_predictions_are_replaced_by_predictions(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    support = write(tmp_path / "s.csv", TEXT)
    task = [f"run={runs / 'texts'}", f"support={support}", f"query={support}"]
    first = predicted(task, tmp_path / "o.csv")
    same(first, predicted(task, tmp_path / "o.csv"))
    (tmp_path / "other.json").write_text('{"command": ["mine"]}')
    table = write(tmp_path / "table.csv", [["row", "result"], [1, 2]])
    for out in (tmp_path / "other.csv", table, runs / "texts" / "record.csv"):
        before = {path: path.read_bytes() for path in out.parent.glob(f"{out.stem}.*")}
        assert "which holds no predictions" in refused(capsys, *task, f"out={out}")
        assert {path: path.read_bytes() for path in out.parent.glob(f"{out.stem}.*")} == before != {}


def test_a_query_of_a_kept_model_may_call_one_column_otherwise(runs: Path, tmp_path: Path) -> None:
    support = write(tmp_path / "s.csv", [["body", "intent"], *TEXT[1:]])
    query = write(tmp_path / "q.csv", [["words", "intent"], ["ping", "q"], ["pong", "q"]])
    names = ("text=body", "label=intent")
    assert main(["predict", f"run={runs / 'texts'}", f"support={support}", f"save={tmp_path / 'kept'}", *names]) == 0
    predicted([f"model={tmp_path / 'kept'}", f"query={query}", "text=words"], tmp_path / "o.csv")
    assert json.loads((tmp_path / "o.json").read_text())["score"]["mean"] == 0.5


def test_a_model_that_does_not_fit_the_disk_is_said_to(runs: Path, tmp_path: Path) -> None:
    model = adapt_to(runs / "texts", write(tmp_path / "s.csv", TEXT))
    with files_limited_to(2000), pytest.raises(UserError, match="cannot be written: File too large"):  # E2
        model.save(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_a_run_that_is_not_finished_has_no_checkpoint_or_takes_no_steps_is_refused(
    runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    support = write(tmp_path / "s.csv", TEXT)
    files = [f"support={support}", f"query={support}"]
    (tmp_path / "run").mkdir()
    shutil.copy(runs / "texts" / "run.json", tmp_path / "run")
    run = f"run={tmp_path / 'run'}"
    assert "is not finished" in refused(capsys, run, *files)
    shutil.copy(runs / "texts" / "record.json", tmp_path / "run")
    assert "no checkpoint at" in refused(capsys, run, *files)
    assert "takes no inner steps" in refused(capsys, f"run={runs / 'texts'}", *files, "steps=3")
    assert "a file is needed that ends in" in refused(capsys, f"run={runs / 'texts'}", f"support={tmp_path}", files[1])


def test_columns_have_names_of_their_own_in_a_query(runs: Path, tmp_path: Path) -> None:
    model = adapt_to(runs / "texts", write(tmp_path / "s.csv", TEXT))
    query = write(tmp_path / "q.csv", [["words"], ["ping"], ["pong"]])
    assert model.predict(query, Columns(text="words")).labels == ["p", "q"]
    with pytest.raises(UserError, match="no column 'text'"):
        model.predict(query)


def stored_bert(folder: Path, seed: int = 0) -> None:
    """A tiny BERT of random weights with a tokenizer that knows letters as words, as ``save_pretrained`` writes them."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *string.ascii_lowercase])}
    words = Tokenizer(WordLevel(vocabulary, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=28, max_position_embeddings=8, **sizes)).save_pretrained(folder)


def bert_run(frozen: str) -> None:
    """A run on texts in the working folder, of the encoder in a folder beside it."""
    stored_bert(Path("bert"))
    write(Path("texts.csv"), [["text", "label"], *([f"{a} {b}", a] for a in "abcdefghi" for b in "tuvwxyz")])
    texts = (
        "dataset=text_files",
        "dataset.data_dir=.",
        "dataset.files=texts.csv",
        "dataset.length=4",
        "dataset.cache_dir=cache",
    )
    encoder = ("model=tiny_bert", "model.name_or_path=bert", f"model.frozen={frozen}", "model.projection=4")
    trained(Path("run"), *texts, *encoder, "algorithm=prototypes", "episode.ways=2")


def test_a_model_of_a_trained_encoder_needs_nothing_but_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bert_run("false")
    support = write(Path("s.csv"), [["text", "label"], ["a u", "1"], ["b v", "2"]])
    query = write(Path("q.csv"), [["text"], ["a w"], ["b w"]]).resolve()
    model = adapt_to("run", support)
    model.save("kept")
    wanted = model.predict(query).probabilities
    shutil.rmtree("bert")
    shutil.rmtree("run")
    shutil.move("kept", "moved")
    load_model("moved").save("again")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in ("../moved", "../again"):
        assert torch.equal(load_model(folder).predict(query).probabilities, wanted)  # type: ignore[arg-type]


def test_other_weights_of_a_frozen_encoder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    bert_run("true")
    support = write(Path("s.csv"), [["text", "label"], ["a u", "1"], ["b v", "2"]])
    files = [f"support={support.resolve()}", f"query={support.resolve()}"]
    first = predicted(["run=run", *files, "save=kept"], tmp_path / "1.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    same(first, predicted(["model=../kept", files[1]], tmp_path / "2.csv"))
    monkeypatch.chdir(tmp_path)
    stored_bert(Path("bert"), seed=1)
    for words in (["run=run", *files], ["model=kept", files[1]]):
        assert "the weights of the frozen encoder (model.name_or_path) have changed" in refused(capsys, *words)
    with pytest.raises(UserError, match="the weights of the frozen encoder"):
        evaluate(Path("run"), ["evaluation.episodes=5"])
    shutil.rmtree("bert")
    assert "neither a folder" in refused(capsys, "model=kept", files[1])
