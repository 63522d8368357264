"""The columns of the results tables: those that metrics declare, and those that no metric computes."""

from __future__ import annotations

from methods.columns import Better, Column, Per

__all__ = ["Better", "Column", "Per"]
