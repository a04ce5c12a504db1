"""How long the website takes to build, and how many bytes each page brings to a reader.

The bytes are counted in a browser with an empty cache, MathJax and its fonts included, uncompressed; most web servers
compress text to about a third.
"""

import importlib.util
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path):
    """Import a file by its path."""
    specification = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def build_seconds() -> tuple[float, float]:
    """Build a fresh copy, then build it again with nothing changed."""
    builder = load(ROOT / "book" / "build.py")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "book", copy / "book", ignore=shutil.ignore_patterns("_build", "__pycache__"))
        shutil.copytree(ROOT / "chapters", copy / "chapters", ignore=shutil.ignore_patterns("__pycache__"))
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            builder.build(copy)
            seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def page_weights(site: Path) -> list[tuple[str, int, int, int, float]]:
    """For every page: its name, bytes of HTML, bytes in all, requests, and seconds until it is typeset."""
    from playwright.sync_api import sync_playwright

    browser = load(ROOT / "tests" / "browser.py")
    path = browser.find()
    if path is None:
        raise SystemExit(browser.HOW_TO_INSTALL)
    server = load(ROOT / "book" / "serve.py").server(site, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=browser.arguments())
        for page in sorted(site.rglob("*.html")):
            name = page.relative_to(site).as_posix()
            if name == "index.html" or name.startswith("_static/"):
                continue
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            tab, answers = context.new_page(), []
            tab.on("response", lambda answer, answers=answers: answers.append(answer))
            start = time.perf_counter()
            tab.goto(f"http://127.0.0.1:{server.server_port}/{name}", wait_until="load")
            tab.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }")
            seconds = time.perf_counter() - start
            total = sum(int(answer.headers.get("content-length", 0)) for answer in answers)
            rows.append((name, page.stat().st_size, total, len(answers), seconds))
            context.close()
        chromium.close()
    server.shutdown()
    server.server_close()
    return rows


def main() -> int:
    """Print both."""
    fresh, again = build_seconds()
    print(f"build: {fresh:.1f} s from nothing, {again:.1f} s when nothing changed")
    print(f"{'page':36} {'HTML kB':>8} {'all kB':>8} {'requests':>8} {'typeset s':>9}")
    for name, html, total, requests, seconds in page_weights(load(ROOT / "book" / "build.py").build()):
        print(f"{name:36} {html / 1000:8.0f} {total / 1000:8.0f} {requests:8} {seconds:9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
