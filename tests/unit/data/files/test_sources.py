"""Downloads, from this machine only: checked before they get their name, and clear when there is no network."""

from pathlib import Path

import fakes
import pytest

from metaloop.data.files import sources
from metaloop.data.files.archives import Origin
from metaloop.data.files.sources import Source, SourceFile
from metaloop.data.images.omniglot_archives import read_runs
from metaloop.errors import UserError

SERVER = "server/all_runs.zip"


def check(path: Path) -> str:
    return f"{len(read_runs(path, 28, 'nearest')[0])} runs"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source named tiny, of one file that is served from a folder."""
    path = fakes.write_zip(tmp_path / SERVER, fakes.runs())
    file = SourceFile("all_runs.zip", path.as_uri(), 0.1, check)
    monkeypatch.setattr(sources, "SOURCES", {"tiny": Source(Origin("tiny", "MIT"), "Tiny", (file,))})
    return path


def test_get_verify_status(tmp_path: Path, served: Path) -> None:
    data, seen = tmp_path / "data", []
    (before,) = sources.status(data)
    assert (before.size, before.sound) == (None, None)
    assert served.as_uri() in before.message
    assert sources.verify("tiny", data)[0].sound is False

    (state,) = sources.get("tiny", data, lambda *step: seen.append(step))
    size = served.stat().st_size
    assert (state.path, state.size, state.sound, state.message) == (
        data / "tiny" / "all_runs.zip",
        size,
        True,
        "20 runs",
    )
    assert state.path.read_bytes() == served.read_bytes()
    assert seen[-1] == ("all_runs.zip", size, size)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert [file.name for file in (data / "tiny").iterdir()] == ["all_runs.zip"]
    (after,) = sources.status(data)
    assert (after.size, after.licence, after.message) == (size, "MIT", "present")
    assert sources.verify("tiny", data) == [state]


def test_sound_files_are_not_fetched_again(tmp_path: Path, served: Path) -> None:
    sources.get("tiny", tmp_path)
    served.unlink()
    assert sources.get("tiny", tmp_path)[0].sound


def test_a_broken_copy_is_replaced(tmp_path: Path, served: Path) -> None:
    sources.get("tiny", tmp_path)
    copy = tmp_path / "tiny" / "all_runs.zip"
    copy.write_bytes(copy.read_bytes()[:1000])
    (state,) = sources.verify("tiny", tmp_path)
    assert state.sound is False
    assert "not a whole zip archive" in state.message
    assert sources.get("tiny", tmp_path)[0].sound


def test_a_wrong_download_does_not_get_the_name(tmp_path: Path, served: Path) -> None:
    served.write_text("<html>moved</html>")
    with pytest.raises(UserError, match="did not give the expected file") as caught:
        sources.get("tiny", tmp_path / "data")
    assert served.as_uri() in str(caught.value)
    assert list((tmp_path / "data" / "tiny").iterdir()) == []


def test_no_network_names_address_and_folder(tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = SourceFile("all_runs.zip", "http://127.0.0.1:9/all_runs.zip", 0.1, check)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/all_runs\.zip .* by hand") as caught:
        sources.fetch(closed, tmp_path / "data" / "all_runs.zip")
    assert f"into {tmp_path / 'data'} by hand" in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, served: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError, match="could not be saved as"):
        sources.get("tiny", tmp_path / "data")


def test_unknown_name(tmp_path: Path) -> None:
    for ask in (sources.get, sources.verify):
        with pytest.raises(UserError, match="'omniglt' is not a data set that can be downloaded; these are: omniglot"):
            ask("omniglt", tmp_path)


def test_the_table() -> None:
    source = sources.SOURCES["omniglot"]
    assert [file.name for file in source.files] == ["images_background.zip", "images_evaluation.zip", "all_runs.zip"]
    for name, each in sources.SOURCES.items():
        assert each.origin.name == name
        assert each.origin.licence
        assert all(file.url.startswith("https://") for file in each.files)
        own = [file for file in each.files if file.name != "news_fewshot.zip"]  # which the authors call data.zip
        assert all(file.url.endswith("/" + file.name) for file in own)


@pytest.mark.data
def test_the_real_runs_verify(real_data: Path) -> None:
    runs = sources.SOURCES["omniglot"].files[2]
    assert runs.check(real_data / "omniglot" / runs.name) == "20 runs, 20 training and 20 test drawings each"
