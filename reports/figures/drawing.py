"""What all figures share: the text under a figure, and its files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def caption(figure: Figure, text: str) -> None:
    """Write a small text under a figure, wrapped to its width."""
    # About 18 characters of 7 points fit into an inch.
    lines = textwrap.fill(text, max(30, int(17 * figure.get_figwidth())))
    figure.supxlabel(lines, fontsize=7, color="#444444", x=0.01, ha="left")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png at 300 dpi, .pdf and .svg, and return their paths.

    The same figure gives the same bytes: files hold no date and no random name.
    """
    import matplotlib.style

    written = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "pdf", "svg")]
    with matplotlib.style.context(["default", {"svg.hashsalt": stem.name}]):
        figure.savefig(written[0], dpi=300, metadata={"Software": None}, pil_kwargs={"compress_level": 4})
        # The layout is computed once, so that all three show the same.
        figure.set_layout_engine("none")
        figure.savefig(written[1], metadata={"CreationDate": None})
        figure.savefig(written[2], metadata={"Date": None})
    return written
