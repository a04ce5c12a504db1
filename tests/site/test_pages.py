"""Every page of the website in a real browser: light and dark, wide and narrow; and the search."""

from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
import pytest

pytestmark = pytest.mark.browser

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
WIDTHS = {"wide": (1280, 900), "phone": (360, 780)}

# Findings of axe that are not ours to mend: (rule, page or "*", part of the element's HTML): why.
KNOWN_FINDINGS: dict[tuple[str, str, str], str] = {}

READY = """async () => {
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
    await document.fonts.ready;
}"""

# Formulas that were not typeset, and MathJax's error nodes.
MATHEMATICS = """() => {
    const formulas = [...document.querySelectorAll('.bd-article .math')];
    return {
        missing: formulas.filter(f => !f.querySelector('mjx-container mjx-math')).map(f => f.textContent.slice(0, 80)),
        errors: [...document.querySelectorAll('mjx-merror, merror, [data-mjx-error], .MathJax_Error')]
            .map(e => e.getAttribute('title') || e.textContent.slice(0, 80)),
    };
}"""

# Chapters hold thousands of coloured words of code and parts of formulas, and axe needs 20 s to look at the contrast of
# each. So one word of each kind in each kind of box stays marked up, and one formula: the others become plain text.
THIN_OUT = """() => {
    const seen = new Set();
    for (const part of document.querySelectorAll('pre span, mjx-math, mjx-assistive-mml')) {
        const box = part.closest('.highlight, .cell_output, .admonition, td, .bd-article');
        const kind = [part.tagName, part.className, part.getAttribute('style'), box.className,
            box.parentElement.className];
        if (!seen.has(kind.join())) seen.add(kind.join());
        else if (part.tagName === 'SPAN') part.replaceWith(...part.childNodes);
        else part.replaceChildren('x');
    }
}"""

# Without preload: axe would ask for style sheets at wrong addresses.
AXE_RUN = "() => axe.run(document, {resultTypes: ['violations'], preload: false})"

# What is wider than the window, apart from what scrolls in a box of its own.
SIDEWAYS = """() => {
    const root = document.scrollingElement, width = root.clientWidth;
    if (root.scrollWidth <= width) return [];
    return [`the page is ${root.scrollWidth} wide in a window of ${width}`,
        ...[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > width + 1)
            .slice(0, 5).map(e => e.outerHTML.slice(0, 120))];
}"""


@contextmanager
def opened(chromium, address, page, width, theme="light"):
    """A page that is loaded and typeset; afterwards nothing may have gone wrong or have been asked of another host."""
    trouble: list[str] = []
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = chromium.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce", bypass_csp=True)
    context.set_default_timeout(30_000)

    def watch(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            trouble.append(f"request to another host: {route.request.url}")
            route.abort()

    context.route("**/*", watch)
    tab = context.new_page()
    tab.on("console", lambda said: said.type in {"error", "warning"} and trouble.append(f"console: {said.text}"))
    tab.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    tab.on("response", lambda answer: answer.status >= 400 and trouble.append(f"{answer.status}: {answer.url}"))
    aborted = "net::ERR_ABORTED"  # by the page that is left, not by an error
    tab.on(
        "requestfailed", lambda lost: lost.failure != aborted and trouble.append(f"failed: {lost.url} {lost.failure}")
    )
    answer = tab.goto(f"{address}{page}", wait_until="load")
    assert answer.status == 200
    try:
        if page.endswith(".html") or ".html?" in page:
            tab.evaluate(READY)
        yield tab
        assert not trouble, "\n".join(trouble)
    finally:
        context.close()


def axe_findings(tab, page):
    """What axe finds on a page, a line each, apart from what is known."""
    if not tab.evaluate("typeof window.axe === 'object'"):
        tab.evaluate(THIN_OUT)
        tab.evaluate(AXE)
    result = tab.evaluate(AXE_RUN)
    found = []
    for violation in result["violations"]:
        for node in violation["nodes"]:
            known = any(
                rule == violation["id"] and where in {page, "*"} and part in node["html"]
                for rule, where, part in KNOWN_FINDINGS
            )
            if not known:
                found.append(f"{violation['id']}: {node['html'][:200]}\n    {node['failureSummary'][:300]}")
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_page_loads_is_typeset_fits_and_is_accessible_in_light_and_dark(chromium, address, page, width):
    with opened(chromium, address, f"{page}.html", width) as tab:
        mathematics = tab.evaluate(MATHEMATICS)
        assert mathematics == {"missing": [], "errors": []}
        assert tab.evaluate(SIDEWAYS) == []
        for theme in ("light", "dark"):
            tab.emulate_media(color_scheme=theme)
            tab.wait_for_selector(f"html[data-theme={theme}]")
            findings = axe_findings(tab, page)
            assert not findings, f"{page}, {width}, {theme}:\n" + "\n".join(findings)


def test_a_formula_that_cannot_be_typeset_would_be_noticed(chromium, address):
    with opened(chromium, address, "book/how_to_read.html", "wide") as tab:
        tab.evaluate(
            r"""async () => {
                const formula = document.createElement('div');
                formula.className = 'math';
                formula.textContent = '\\[\\frac{1}{\\left( 2}\\]';
                document.querySelector('.bd-article').append(formula);
                await MathJax.typesetPromise([formula]);
            }"""
        )
        assert tab.evaluate(MATHEMATICS)["errors"]


def test_pages_use_the_theme_that_the_reader_chose(chromium, address):
    with opened(chromium, address, "book/how_to_read.html", "wide") as tab:
        background = "getComputedStyle(document.body).backgroundColor"
        light = tab.evaluate(background)
        tab.evaluate("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
        tab.reload()
        tab.wait_for_selector("html[data-theme=dark]")
        assert tab.evaluate(background) != light


def test_the_sites_address_leads_to_the_landing_page(chromium, address):
    with opened(chromium, address, "", "wide") as tab:
        tab.wait_for_url("**/book/index.html")
        assert "Large Language Models" in tab.locator("article h1").inner_text()


def test_search_box_finds_a_word_of_chapter_2(chromium, address):
    with opened(chromium, address, "book/index.html", "wide") as tab:
        tab.keyboard.press("Control+k")
        tab.keyboard.type("eigenvalue")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/search.html?q=eigenvalue*")
        result = tab.locator("#search-results li a[href*='02_linear_algebra.html']").first
        result.wait_for()
        result.click()
        tab.wait_for_url("**/chapters/02_linear_algebra.html*")
        assert "igenvalue" in tab.locator("article").inner_text()


def test_axe_would_find_an_image_without_text_and_faint_words(chromium, address):
    with opened(chromium, address, "book/how_to_read.html", "wide") as tab:
        tab.evaluate(
            """() => document.querySelector('.bd-article').insertAdjacentHTML('beforeend',
                '<img src="data:,"><p style="color: #ddd; background: white">faint</p>')"""
        )
        rules = {finding.split(":")[0] for finding in axe_findings(tab, "book/how_to_read")}
    assert rules == {"image-alt", "color-contrast"}


def test_search_says_when_there_is_nothing(chromium, address):
    with opened(chromium, address, "search.html?q=zzyzxqq", "wide") as tab:
        tab.get_by_text("did not match any documents").wait_for()
        assert tab.locator("#search-results li").count() == 0


def test_search_results_are_accessible_and_fit(chromium, address):
    with opened(chromium, address, "search.html?q=matrix", "phone") as tab:
        tab.locator("#search-results li a").first.wait_for()
        assert tab.evaluate(SIDEWAYS) == []
        assert axe_findings(tab, "search") == []


def test_downloaded_notebook_is_the_chapters(chromium, address, chapter, site):
    import nbformat

    with opened(chromium, address, f"{chapter}.html", "wide") as tab:
        with tab.expect_download() as started:
            tab.locator(".lm-facts a[download]").click()
        download = started.value
        assert download.suggested_filename == f"{chapter.split('/')[1]}.ipynb"
        notebook = nbformat.read(download.path(), as_version=4)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells)
