"""Files of more than 8 bits a channel become 8 bits by their own value of white, or are refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metaloop.data.distribution import SPLITS
from metaloop.data.images.image_files import decode
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError
from picture_files import write_folder

DEEP = np.uint16([[0, 1000], [2000, 4095]])
SHARES = dict.fromkeys(SPLITS, 1.0)


def packed(values: np.ndarray, kind: str = "PNG", **more: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(values).save(content, kind, **more)
    return content.getvalue()


def png(values: np.ndarray, color: int) -> bytes:
    """A PNG file of 16 bits a channel (height, width, channels), of which Pillow writes greys only."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: np.ndarray, tag: int, value: int) -> bytes:
    """A TIFF file in which a short tag has another value than Pillow writes."""
    content = bytearray(packed(values, "TIFF"))
    place = content.index(struct.pack("<HHI", tag, 3, 1)) + 8
    content[place : place + 2] = struct.pack("<H", value)
    return bytes(content)


def read(content: bytes, **more: Any) -> list[Any]:
    found = decode(content, 2, "crop", "nearest", **more)
    assert all(np.array_equal(found[0], channel) for channel in found)
    return found[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_B6_fewer_bits_in_files_of_sixteen_need_their_white(kind: str) -> None:
    with pytest.raises(
        ValueError, match=r"greys of 16 bits up to 4095, as if of 12 bits: set dataset\.white .*4095 for 12 bits"
    ):
        read(packed(DEEP, kind))
    assert read(packed(DEEP, kind), white=4095) == [[0, 62], [125, 255]]
    assert read(packed(DEEP, kind), white=65535) == [[0, 4], [8, 16]]
    assert read(packed(DEEP * 16, kind)) == [[0, 62], [125, 255]]  # moved to the upper bits
    assert read(packed(DEEP * 0, kind)) == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"greys of 16 bits up to 4095, above white, dataset\.white=4000"):
        read(packed(DEEP, kind), white=4000)


@pytest.mark.parametrize(("top", "bits"), [(1, 8), (255, 8), (256, 10), (1023, 10), (5000, 14), (20000, 15), (32767, 15)])
def test_B6_the_message_names_the_bits_that_the_largest_value_needs(top: int, bits: int) -> None:
    with pytest.raises(ValueError, match=rf"up to {top}, as if of {bits} bits: .*\({2**bits - 1} for {bits} bits, 65535 if"):
        read(packed(np.uint16([[0, top]])))
    read(packed(np.uint16([[0, 32768], [0, 0]])))


def test_B6_a_transparent_grey_tells_nothing_about_white() -> None:
    values = np.uint16([[65535, 1000], [2000, 4095]])
    with pytest.raises(ValueError, match="up to 4095, as if of 12 bits"):
        read(packed(values, transparency=65535))
    assert read(packed(values, transparency=65535), white=4095) == [[255, 62], [125, 255]]


def test_B6_files_that_say_their_range_are_read_by_it() -> None:
    plain = f"P2 2 2 4095\n{' '.join(map(str, DEEP.flatten()))}\n".encode()
    binary = b"P5 2 2 4095\n" + DEEP.astype(">u2").tobytes()
    assert read(plain) == read(binary) == read(binary, white=100) == [[0, 62], [125, 255]]
    twelve = bytearray(tiff(np.zeros((2, 2), np.uint16), 258, 12))
    start = struct.unpack_from("<H", twelve, twelve.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    for row, (left, right) in enumerate(DEEP.tolist()):
        twelve[start + 3 * row : start + 3 * row + 3] = (left << 12 | right).to_bytes(3, "big")
    assert read(bytes(twelve)) == [[0, 62], [125, 255]]


def test_B6_greys_whose_white_is_zero_are_turned_round() -> None:
    assert read(tiff(DEEP * 16, 262, 0)) == [[255, 193], [130, 0]]
    assert read(tiff(DEEP, 262, 0), white=4095) == [[255, 193], [130, 0]]


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_B6_colours_of_sixteen_bits_are_read_by_their_upper_half_if_it_is_used(color: int, channels: int) -> None:
    values = np.repeat(DEEP[..., None] * 16, channels, -1)
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    assert read(png(values, color)) == [[0, 62], [125, 255]]
    low = values // 16
    low[..., -1] |= 65535 if channels in (2, 4) else 0
    with pytest.raises(ValueError, match=r"colours of 16 bits up to about 4095, as if of fewer bits: convert it to 8 bits"):
        read(png(low, color))
    assert read(png(low, color), white=65535) == [[0, 3], [7, 15]]
    with pytest.raises(ValueError, match=r"colours of 16 bits, which are read with dataset\.white=65535 only"):
        read(png(low, color), white=4095)


def test_B6_sixteen_bits_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert read(packed(DEEP * 16, exif=exif)) == [[255, 125], [62, 0]]


def test_B6_the_key_holds_in_training_and_prediction(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "own", {f"{name}/0.png": packed(DEEP // (1 + n)) for n, name in enumerate("abc")})

    def opened(white: int | None) -> ImageFolder:
        return ImageFolder(str(path), SHARES, side=2, white=white, decoders=0, cache_dir=str(tmp_path / "cache"))

    with pytest.raises(
        UserError, match=r"3 of 3 pictures cannot be read: a/0\.png \(greys of 16 bits up to 4095.*dataset\.white"
    ):
        opened(None).split("train")
    with pytest.raises(UserError, match=r"3 images cannot be read: a/0\.png: greys of 16 bits up to 4095.*dataset\.white"):
        opened(None).read_user_file(path, Columns(), (3, 2, 2), labelled=True)
    tops = {white: [int(opened(white).split(split).inputs.max()) for split in SPLITS] for white in (4095, 65535)}  # type: ignore[union-attr]
    assert {white: sorted(found) for white, found in tops.items()} == {4095: [85, 127, 255], 65535: [5, 8, 16]}
    rows = opened(4095).read_user_file(path, Columns(), (3, 2, 2), labelled=True)
    assert sorted(int(row.max()) for row in rows.inputs) == [85, 127, 255]  # type: ignore[union-attr]


@pytest.mark.parametrize("white", [0, -1, 65536, 4095.0, True, "12 bits"])
def test_B6_wrong_values_of_white_are_refused(white: Any) -> None:
    with pytest.raises(UserError, match=r"dataset\.white=.* must be a whole number from 1 to 65535, or null"):
        ImageFolder("x", SHARES, white=white)
