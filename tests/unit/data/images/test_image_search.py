"""Images are found by their names or first bytes, each once; what is skipped is named, and nothing is waited for."""

import io
import logging
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fakes import write_zip
from PIL import Image

from metaloop.data.files.archives import Origin
from metaloop.data.images import image_files, image_search
from metaloop.data.images.class_division import read_split_file
from metaloop.data.images.image_files import FileEntry, decode
from metaloop.data.images.image_search import find_images
from metaloop.data.texts.text_reading import read_file
from metaloop.errors import UserError
from picture_files import picture, write_folder

OWN = Origin("own", "", "Look")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_B10_images_without_a_usual_suffix_are_found_by_their_first_bytes(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = {"JPEG": "0001", "PNG": "photo", "WEBP": "a.b/x", "BMP": "IMG_0.5", "GIF": "p.v2", "TIFF": "t.1", "PPM": "-"}
    files = {f"c/{name}": picture(3, kind=image) for image, name in kinds.items()}
    files |= {f"c/{number}{suffix}": picture(3, kind="JPEG") for number, suffix in enumerate((".jfif", ".JPE", ".Jif"))}
    others = {
        "c/LICENSE": b"BMP and P5 are formats",
        "c/list.txt": picture(3),
        "d/a.nef": picture(3, kind="TIFF"),
        "d/e/b.nef": b"x",
    }
    content = files | others
    path = write_folder(tmp_path / "own", content) if kind == "folder" else write_zip(tmp_path / "own.zip", content)
    with caplog.at_level(logging.INFO):
        found = find_images(path, OWN)
    assert list(found) == sorted(files)
    assert all((decode(entry.read(), 2, "crop", "nearest") < 9).all() for entry in found.values())
    assert "1 folders hold no image that can be read: d" in caplog.text
    assert "4 other files are ignored (.nef 2, no suffix 1, .txt 1)" in caplog.text


def test_B10_a_link_to_what_is_read_already_is_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "own", {"zebra/0.png": picture(0), "ant/0.png": picture(1)})
    elsewhere = write_folder(tmp_path / "elsewhere", {"bee/0.png": picture(2), "bee/in/1.png": picture(3)})
    (root / "a_copy_of_zebra").symlink_to(root / "zebra")
    (root / "bee").symlink_to(elsewhere / "bee")
    (root / "bee2").symlink_to(elsewhere / "bee" / "in")
    (root / "ant" / "1.png").symlink_to("0.png")
    (root / "a.png").symlink_to(elsewhere / "bee" / "0.png")
    (root / "up").symlink_to(tmp_path)
    (root / "zebra" / "round").symlink_to(root)
    assert list(find_images(root, OWN)) == ["a.png", "ant/0.png", "bee/in/1.png", "zebra/0.png"]
    assert (
        "6 skipped that lead to what is read already, or to a folder around this one: a_copy_of_zebra, ant/1.png" in caplog.text
    )
    monkeypatch.setattr(image_search, "_NAMED", 6)
    find_images(root, OWN)
    assert "a_copy_of_zebra, ant/1.png, bee/0.png, bee2, up, zebra/round" in caplog.text


def test_E14_pipes_devices_sockets_and_dangling_links_are_skipped_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "own", {"ant/0.png": picture(0)})
    os.mkfifo(root / "ant" / "pipe.png")
    os.mkfifo(root / "ant" / "pipe")
    (root / "ant" / "link.png").symlink_to(root / "ant" / "pipe.png")
    (root / "ant" / "zero.png").symlink_to("/dev/zero")
    (root / "ant" / "gone.png").symlink_to("nowhere.png")
    (root / "ant" / "self.png").symlink_to("self.png")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(root / "ant")  # a socket's path is at most a hundred characters long
        listener.bind("socket.png")
    assert list(find_images(root, OWN)) == ["ant/0.png"]
    assert "5 skipped that are no files, but pipes, devices or sockets: ant/link.png, ant/pipe, ant/pipe.png, " in caplog.text
    assert "2 skipped that lead nowhere: ant/gone.png, ant/self.png" in caplog.text


def test_E14_what_is_no_file_is_refused_where_a_file_is_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.zip")
    for path in (tmp_path / "own.zip", Path("/dev/zero")):
        with pytest.raises(UserError, match=r"is no file, but a pipe, device or socket\. Look"):
            find_images(path, OWN)
    with pytest.raises(UserError, match="is no file, but a pipe"):
        read_file(tmp_path / "own.zip", OWN)
    with pytest.raises(UserError, match=r"dataset\.split_file=.*is no file"):
        read_split_file(tmp_path / "own.zip")


def test_E14_large_images_and_files_are_refused_with_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("1", (20_001, 5_000)).save(file, "PNG")
    with pytest.raises(ValueError, match=r"^20001x5000 = 100,005,000 pixels; at most 100,000,000 are read$"):
        decode(file.getvalue(), 4, "crop", "nearest")
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own, of which it warns, does not count
    assert decode(picture(7), 4, "crop", "nearest").shape == (3, 4, 4)
    assert Image.MAX_IMAGE_PIXELS == 10 != limit
    (tmp_path / "a.png").write_bytes(picture(1))
    monkeypatch.setattr(image_files, "_MAX_BYTES", 20)
    with pytest.raises(ValueError, match=r"\d+ bytes; at most 20 are read"):
        FileEntry(str(tmp_path / "a.png")).read()


def test_names_that_are_no_text_and_names_given_twice_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", {"ant/0.png": picture(0)})
    (tmp_path / "own" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        find_images(tmp_path / "own", OWN)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("ant/0.png", picture(0))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("ant/0.png", picture(1))
    with pytest.raises(UserError, match=r"holds two files of the name 'ant/0\.png'"):
        find_images(tmp_path / "own.zip", OWN)


def test_archives_of_windows_have_folders(tmp_path: Path) -> None:
    assert list(find_images(write_zip(tmp_path / "own.zip", {"ant\\0.png": picture(0)}), OWN)) == ["ant/0.png"]


def test_a_folder_of_many_files_is_opened_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "own", {f"{c}/{e}.png": b"x" for c in "ab" for e in range(3)} | {"a/x.xml": b"x"})
    monkeypatch.setattr(Path, "open", None)
    assert len(find_images(tmp_path / "own", OWN)) == 6


def test_decoded_pixels_are_those_of_the_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert np.array_equal(decode(file.getvalue(), 4, "crop", "nearest"), pixels.transpose(2, 0, 1))


def _pages(**options: object) -> bytes:
    packed = io.BytesIO()
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    first.save(packed, "TIFF", save_all=True, append_images=[second], **options)
    return packed.getvalue()


def test_B10_a_file_of_several_pages_is_refused_and_an_animation_has_its_first_frame() -> None:
    with pytest.raises(ValueError, match="several pages; save each"):
        decode(_pages(), 4, "crop", "nearest")
    assert decode(_pages(tiffinfo={254: 1}), 4, "crop", "nearest").max() == 10  # the second is a smaller copy of the first
    packed = io.BytesIO()
    Image.new("L", (4, 4), 10).save(packed, "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 200)])
    assert decode(packed.getvalue(), 4, "crop", "nearest").max() == 10
