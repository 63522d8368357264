"""Text files as editors and spreadsheets save them: UTF-8 or UTF-16 with a byte order mark, any line ends."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: Path, single_bytes: bool = False) -> str:
    r"""Read a text file without its byte order mark, with line ends `\n`.

    Args:
        path: the file, in UTF-8, or in UTF-16 with a byte order mark.
        single_bytes: read a file in neither encoding as Windows-1252, for a format whose values are ASCII.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another encoding; the message names the line.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if not single_bytes:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"text that is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}); save it as UTF-8"
            ) from error
        text = content.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
