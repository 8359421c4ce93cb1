"""The report in a real browser: wide and narrow, light and dark."""

import shutil

import pytest

from nnunet_sfma.reporting.report import write_report
from tests.reporting.conftest import add_explain

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the path"
)

EVIL = '"><script>document.title = "smuggled"</script>'


@pytest.fixture(scope="module")
def address(make_with_images, tmp_path_factory) -> str:
    """A report with everything that a report can have."""
    common = {"classes": ("core", "a-class-with-a-very-long-name-indeed"), "release": "isles2022"}
    common["cases"] = [EVIL, *(f"case_{number}" for number in range(11))]
    evaluations = [
        make_with_images(curves=True, **common),
        make_with_images(name="nnUNetTrainerDANIE_L / danie-l / 2d", quality=0.7, **common),
    ]
    for evaluation in evaluations:
        bins = [{"from": 0, "to": 0.1, "unit": "ml", "lesions": 5, "detected": 3}]
        evaluation["detection_by_size"] = {name: bins for name in common["classes"]}
    add_explain(evaluations[0], figures=1, size=(1200, 100))
    return write_report(evaluations, tmp_path_factory.mktemp("report") / "report.html")[0].as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # browsers of containers run as root, where Chromium's sandbox cannot
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_is_whole_quiet_and_fits(browser, address, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said, requests = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    assert said == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.title() == "Dataset501_Made"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.images.length") == 4 + 2 * 2 * 3 + 1
    background, ink = page.evaluate(
        "['backgroundColor', 'color'].map(name => parseInt(getComputedStyle(document.body)[name].slice(4)))"
    )
    assert (background > 200 and ink < 60) if scheme == "light" else (background < 60 and ink > 200)
    svg_text = page.evaluate("parseInt(getComputedStyle(document.querySelector('.plot svg text')).fill.slice(4))")
    assert svg_text == ink
    context.close()


def test_keyboard_reaches_the_headings_and_enter_sorts(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#cases").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#cases').parentElement.querySelector('summary').focus()")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.startsWith('Dice')"):
            break
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for direction in ("ascending", "descending"):
        page.keyboard.press("Enter")
        column = page.evaluate("document.activeElement.closest('th').cellIndex")
        assert page.evaluate("document.activeElement.closest('th').ariaSort") == direction
        cells = page.evaluate(
            f"Array.from(document.querySelectorAll('#table-cases tbody tr'), r => r.cells[{column}].textContent)"
        )
        values = list(map(float, cells))
        assert values == sorted(values, reverse=direction == "descending") and len(set(values)) > 5
    page.close()


def test_headings_are_in_order_and_every_table_has_a_caption(browser, address):
    page = browser.new_page()
    page.goto(address)
    levels = page.evaluate("Array.from(document.querySelectorAll('h1, h2, h3'), h => parseInt(h.tagName[1]))")
    assert levels.count(1) == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert page.evaluate(
        "Array.from(document.querySelectorAll('table')).every(t => t.caption && t.querySelector('th[scope=row]'))"
    )
    assert page.evaluate("Array.from(document.querySelectorAll('nav a')).every(a => document.querySelector(a.hash))")
    assert page.evaluate("new Set(Array.from(document.querySelectorAll('[id]'), e => e.id)).size") == page.evaluate(
        "document.querySelectorAll('[id]').length"
    )
    page.close()
