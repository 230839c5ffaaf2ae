"""The records of a W&B file, as bytes.

The file is a log as LevelDB writes it, after a header of its own: blocks of 32 KiB that hold pieces of records, each piece
behind checksum, length and kind (whole, first, middle or last). Source: the format's description in LevelDB's log_format.md.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = 7  # bytes: of the file, and of every piece
_BLOCK = 2**15
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[bytes]:
    """Every whole record, in order, up to the first place that is damaged or was not written to its end.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    place, parts = _HEADER, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:  # too short for a piece: padding
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        end = place + _HEADER + length
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or end > len(data):
            return
        parts = (b"" if kind in (_WHOLE, _FIRST) else parts) + data[place + _HEADER : end]
        place = end
        if kind in (_WHOLE, _LAST):
            yield parts
