"""The built website, a local server for it, and a Chromium to read it with."""

import importlib.util
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path):
    """Import a file by its path: book/ and tests/ are no packages."""
    name = f"lmbook_{path.stem}"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pages() -> list[str]:
    """Every page in the table of contents, as a path without suffix; the landing page first."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]


def pytest_generate_tests(metafunc):
    """Run a test that asks for a `page` with every page, and one that asks for a `chapter` with every chapter."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", [*pages(), "search"])
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", [page for page in pages() if page.startswith("chapters/")])


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site; only what changed is built again."""
    return load(ROOT / "book" / "build.py").build()


@contextmanager
def serving(folder: Path):
    """Serve a folder on a free port of this computer; yields the address, with a slash at its end."""
    server = load(ROOT / "book" / "serve.py").server(folder, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served while the tests run."""
    with serving(site) as url:
        yield url


@pytest.fixture(scope="module")  # not longer: Playwright keeps an event loop running, which kernels would trip over
def chromium():
    """A running headless Chromium; skipped with a reason where there is none."""
    browser = load(ROOT / "tests" / "browser.py")
    path = browser.find()
    if path is None:
        pytest.skip(browser.HOW_TO_INSTALL)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=browser.arguments(), timeout=60_000)
        yield running
        running.close()
