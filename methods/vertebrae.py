"""Names and order of the vertebrae: VerSe ids, which every label map of this project has."""

from __future__ import annotations

T13 = 28
# From the head down. T13 is an additional thoracic vertebra, between T12 (19) and L1 (20).
VERTEBRAE = (*range(1, 20), T13, *range(20, 26))
SCHEME = "VerSe ids (C1-C7 = 1-7, T1-T12 = 8-19, T13 = 28, L1-L6 = 20-25)"


def vertebra_name(number: int) -> str:
    """Return the anatomical name of a VerSe id, such as `L3`; another number is returned as text."""
    if number == T13:
        return "T13"
    for region, first, last in (("C", 1, 7), ("T", 8, 19), ("L", 20, 25)):
        if first <= number <= last:
            return f"{region}{number - first + 1}"
    return str(number)


def place_in_spine(number: int) -> int:
    """Return a key that orders VerSe ids from the head down, T13 between T12 and L1; other numbers follow."""
    return VERTEBRAE.index(number) if number in VERTEBRAE else len(VERTEBRAE) + number


def named(number: int) -> str:
    """Return a VerSe id with its name, such as `L3 (22)`; another number is returned as text."""
    return f"{vertebra_name(number)} ({number})" if number in VERTEBRAE else str(number)
