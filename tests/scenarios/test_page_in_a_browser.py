"""The HTML report in headless Chromium: offline, by mouse and keyboard, in dark mode and on a narrow screen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.synthetic import write_run

from reports.write import Options, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page is written, not opened")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    lost = {("pc", 1): ("crashed", "</script><img src=x onerror=alert(1)> " + "/folder" * 40)}
    run = write_run(tmp_path_factory.mktemp("page") / "run", 3, lost=lost)
    return write_report(run, Options(with_paper=True)).parent / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here to drive chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, page_file) -> Iterator[Any]:
    """The page; every error and every request outside the file is recorded in `faults`."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.faults = []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on("console", lambda m: opened.faults.append(m.text) if m.type == "error" else None)
    opened.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else opened.faults.append(r.url))
    opened.goto(page_file.as_uri())
    until(opened, "document.querySelectorAll('canvas[data-drawn]').length === 2")
    yield opened
    assert opened.faults == []
    context.close()


def first_column(page: Any) -> list[str]:
    return page.eval_on_selector_all("#table-0 tbody th", "cells => cells.map(c => c.textContent)")


def picture(page: Any) -> str:
    return page.eval_on_selector("figure[data-plane=sagittal] canvas", "c => c.toDataURL()")


def most_colourful(page: Any) -> int:
    """The largest difference between two channels of a pixel."""
    script = """c => {
      const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let most = 0;
      for (let i = 0; i < p.length; i += 4) {
        const [r, g, b] = p.subarray(i, i + 3);
        most = Math.max(most, Math.max(r, g, b) - Math.min(r, g, b));
      }
      return most;
    }"""
    return int(page.eval_on_selector("figure[data-plane=sagittal] canvas", script))


def drawn(page: Any) -> int:
    return int(page.get_attribute("figure[data-plane=sagittal] canvas", "data-drawn"))


def until(page: Any, condition: str) -> None:
    """Wait until a condition holds; the page's policy forbids the driver's own wait, which evaluates text."""
    deadline = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def after(page: Any, act: Any) -> None:
    """Call `act` and wait until the viewer has drawn again."""
    before = drawn(page)
    act()
    until(page, f"Number(document.querySelector('figure[data-plane=sagittal] canvas').dataset.drawn) > {before}")


def test_the_table_sorts_in_both_directions_and_restores_its_order(page):
    order = first_column(page)
    assert order[0].startswith("Initial")
    head = page.locator("#table-0 thead button").nth(1)
    values = "rows => rows.map(r => Number(r.cells[1].dataset.value)).filter(v => !Number.isNaN(v))"
    head.click()
    found = page.eval_on_selector_all("#table-0 tbody tr", values)
    assert found == sorted(found) and len(found) >= 5
    head.focus()
    page.keyboard.press("Enter")
    found = page.eval_on_selector_all("#table-0 tbody tr", values)
    assert found == sorted(found, reverse=True)
    assert page.locator("#table-0 thead th").nth(1).get_attribute("aria-sort") == "descending"
    head.click()
    assert first_column(page) == order


def test_a_point_names_its_patient_and_vertebra_and_opens_the_case(page):
    point = page.locator("#plots-0 figure").first.locator("circle.point").last
    point.scroll_into_view_if_needed()
    place = point.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    tip = page.locator("#plots-0 .tip").first.text_content()
    row, case, vertebra = tip.split(": ")[0].split(", ")
    assert case.startswith("test-data-00") and vertebra in ("L1", "T12", "T11")
    after(page, lambda: page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2))
    assert page.locator("#viewer-0 .read").text_content() == f"{case}, {row}"


def test_the_plots_work_by_keyboard(page):
    svg = page.locator("#plots-0 svg").first
    svg.focus()
    page.keyboard.press("ArrowUp")
    lowest = page.locator("#plots-0 .read").text_content()
    assert lowest.startswith("Initial, test-data-00")
    page.keyboard.press("ArrowUp")
    higher = page.locator("#plots-0 .read").text_content()
    assert float(higher.split()[-1]) >= float(lowest.split()[-1])
    page.keyboard.press("ArrowRight")
    chosen = page.locator("#plots-0 .read").text_content()
    assert chosen.startswith("Staring, ")
    after(page, lambda: page.keyboard.press("Enter"))
    case = chosen.split(", ")[1]
    assert page.locator("#viewer-0 .read").text_content().startswith(f"{case}, Staring")


def test_every_control_of_the_viewer_changes_the_picture(page):
    seen = [picture(page)]

    def changed(act: Any) -> None:
        after(page, act)
        seen.append(picture(page))
        assert seen[-1] != seen[-2]

    changed(lambda: page.locator("figure[data-plane=sagittal] .slice").press("ArrowLeft"))
    assert page.locator("figure[data-plane=sagittal] output").text_content().endswith("of 12")
    changed(lambda: page.locator("#viewer-0 .row").select_option("voxelmorph@cpu"))
    changed(lambda: page.locator("#viewer-0 .blend").fill("60"))
    assert most_colourful(page) > 100
    changed(lambda: page.locator("#viewer-0 input.fixed").press("Space"))
    changed(lambda: page.locator("#viewer-0 input.warped").press("Space"))
    assert most_colourful(page) < 6, "without outlines a picture is grey, but for WebP's rounding"
    changed(lambda: page.locator("#viewer-0 .window").fill("60"))
    changed(lambda: page.locator("#viewer-0 .level").fill("90"))
    changed(lambda: page.locator("#viewer-0 .reset").click())
    assert seen[-1] == seen[-4], "as before"
    changed(lambda: page.locator("#viewer-0 .image").select_option("moving"))
    assert page.locator("#viewer-0 .blend").is_disabled()


def test_a_lost_cell_is_not_offered_and_its_failure_is_shown_as_text(page):
    after(page, lambda: page.locator("#viewer-0 .case").select_option(label="test-data-001"))
    rows = page.eval_on_selector_all("#viewer-0 .row option", "options => options.map(o => o.value)")
    assert "pc@cpu" not in rows and "voxelmorph@cpu" in rows
    page.locator("#failures-0 summary").first.click()
    assert "</script><img src=x onerror=alert(1)>" in page.locator("#failures-0 pre").first.text_content()
    assert page.locator("#failures-0 img").count() == 0


def test_controls_are_reached_with_the_tab_key(page):
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(e => e.closest('section')?.id + ' ' + e.tagName)(document.activeElement)"))
    for place in ("table-0 BUTTON", "plots-0 svg", "viewer-0 SELECT", "viewer-0 INPUT"):
        assert place in reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for selector in ("body", ".notes p", "tbody td", "a", ".warning"):
        ratio = page.evaluate(CONTRAST, selector)
        assert ratio >= 4.5, (selector, ratio)


def test_table_1_is_not_cut_on_a_common_screen(page):
    page.set_viewport_size({"width": 1280, "height": 800})
    sizes = page.eval_on_selector("#table-0 .scroll", "e => [e.scrollWidth, e.clientWidth]")
    assert sizes[0] <= sizes[1]


def test_a_narrow_screen_scrolls_within_the_table_and_never_the_page(page):
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#plots-0 figure").nth(1).bounding_box()["x"] < 40, "plots are one below the other"


# WCAG's contrast of an element's text and its background.
CONTRAST = """selector => {
  const element = document.querySelector(selector);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  let behind = element, back;
  do { back = rgb(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
  while (back.length > 3 && back[3] === 0 && behind);
  const light = c => { const s = c / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; };
  const luminance = c => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
  const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(back)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
