"""The HTML report as text: self-contained, escaped, small, the same bytes each time (test_page.py opens it)."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.synthetic import blocks_case, write_run

from reports.html.page import embedded, with_code
from reports.write import Options, write_report

EVIL = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Four patients, one cell crashed with markup in its error, a row whose name is markup and that cannot run."""
    lost = {("pc", 1): ("crashed", f"Traceback\n{EVIL}\nMemoryError: 40 GiB"), ("staring", 0): ("timeout", "3600 s")}
    methods = ("initial", "staring", "voxelmorph", "pc", "volume", "mine<b>")
    run = write_run(tmp_path_factory.mktemp("html") / "run", 4, methods, lost=lost, unavailable=("mine<b>",))
    return write_report(run, Options(with_paper=True)).parent


@pytest.fixture(scope="module")
def text(report) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(text) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


def test_nothing_is_fetched(elements, text):
    for tag, attributes in elements.found:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:image/", "#")), (tag, name, value[:60])
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "@import" not in text and not re.search(r"url\((?!['\"]?data:)", text)
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_what_a_run_brings_in_stays_text(text, elements):
    assert EVIL not in text and "<b>" not in re.sub(r"<b>[^<]*</b>", "", text)
    assert not [tag for tag, attributes in elements.found if any(name.startswith("on") for name in attributes)]
    assert "&lt;/script&gt;&lt;img src=x" in text, "the error itself is shown"
    assert "Traceback of pc" in text, "and its row's log"


def test_what_stands_between_backquotes_is_code(text):
    assert "<code>train --sweep</code>" in text
    body = re.sub(r"<(script|style|pre)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert "`" not in body, "no backquote is shown"
    assert str(with_code("`a<b` & `c")) == "<code>a&lt;b</code> &amp; `c"


def test_json_cannot_end_its_element():
    assert str(embedded({"a": "</script><!--&"})) == r'{"a":"\u003c/script\u003e\u003c!--\u0026"}'
    with pytest.raises(ValueError):
        embedded(float("nan"))


def test_failures_and_missing_cells_are_on_the_page(text):
    assert text.index("Incomplete run.") < text.index('<section id="table-0">')
    assert "pc@cpu: crashed on test-data-001" in text
    assert (
        text.count("mine&lt;b&gt;@cpu: unavailable on test-data-000, test-data-001, test-data-002, test-data-003") == 1
    )
    assert "staring@cpu: timeout on test-data-000" in text


def test_the_table_sorts_by_numbers_and_not_by_their_text(text):
    row = re.search(r'<tr><th scope="row">VoxelMorph</th>(.*?)</tr>', text)[1]
    value = float(re.search(r'data-value="([^"]+)"', row)[1])
    printed = re.search(r">(?:<b>)?(\d\.\d\d)\(", row)[1]
    assert printed == f"{value:.2f}"


def test_label_maps_come_back_as_they_were(elements):
    pictures = json.loads(elements.scripts[1])
    kept = pictures["sagittal"]
    with Image.open(io.BytesIO(base64.b64decode(kept["fixed"].partition(",")[2]))) as image:
        stacked = np.array(image).reshape(kept["count"], kept["height"], kept["width"])
    case = blocks_case("test-data-000")
    # The head is above on the page, and at the end of the array.
    expected = case.pair.fixed.labels[::-1, :, kept["where"][2]]
    np.testing.assert_array_equal(stacked[2], expected)
    assert set(pictures["rows"]) == {"initial", "voxelmorph@cpu", "pc@cpu", "volume@cpu"}, "staring's cell was lost"


def test_every_file_is_linked_and_the_same_run_gives_the_same_bytes(report):
    first = {file.name: file.read_bytes() for file in report.iterdir()}
    index = first["index.md"].decode()
    assert all(f"({name})" in index for name in first if name != "index.md")
    assert {"fig3.png", "fig3.pdf", "fig3.svg", "fig1.png"} <= set(first)
    write_report(report.parent, Options(with_paper=True))
    assert {file.name: file.read_bytes() for file in report.iterdir()} == first
