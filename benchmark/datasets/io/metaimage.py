"""MetaImage files: a header `.mhd` with its values in another file, or both in one `.mha`."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import BadInput

VALUES = (".raw", ".zraw")


def check_files(path: Path) -> None:
    """Refuse the values of a MetaImage without its header, and a header without its values.

    Args:
        path: an image file of any format that exists. A damaged header passes: ITK refuses it.

    Raises:
        BadInput: with the file that is missing.
    """
    if path.suffix.lower() in VALUES:
        header = path.with_suffix(".mhd").name
        raise BadInput(f"{path}: expected an image with a header, found the values of one alone; give {header}")
    if path.suffix.lower() != ".mhd" or not path.is_file():
        return
    lines = [line.partition("=") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    named = next((value.strip() for key, _, value in lines if key.strip() == "ElementDataFile"), "LOCAL")
    # LOCAL: the values follow the header. LIST and a pattern with %: one file for each slice.
    in_one_file = not named.upper().startswith(("LOCAL", "LIST")) and "%" not in named
    if in_one_file and not (path.parent / named).is_file():
        raise BadInput(f"{path}: expected its values in {named} beside it, found no such file; copy both files")
