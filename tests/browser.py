"""Find a Chromium for the tests of the website and of JupyterLab.

    python tests/browser.py      print where it is; if there is none, install Playwright's or say what to install

Looked for, in this order: the path in the environment variable LMBOOK_BROWSER, Playwright's own Chromium, Chromium,
Chrome or Edge on the PATH, and the places where macOS and Windows put them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge"]
PLACES = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "%ProgramFiles%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles(x86)%/Google/Chrome/Application/chrome.exe",
    "%LocalAppData%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles%/Chromium/Application/chrome.exe",
    "%ProgramFiles(x86)%/Microsoft/Edge/Application/msedge.exe",
]
ARGUMENTS = [  # no request of the browser's own: what is recorded then comes from the page
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-quic",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
]
HOW_TO_INSTALL = (
    "No Chromium was found. Install one: `python -m playwright install chromium`, on Debian or Ubuntu `apt install "
    "chromium`, on macOS `brew install --cask chromium`, or Google Chrome; or set LMBOOK_BROWSER to the path of one."
)


def find() -> str | None:
    """The path of a Chromium, or None.

    Raises:
        ValueError: LMBOOK_BROWSER is set, but is not a file.
    """
    chosen = os.environ.get("LMBOOK_BROWSER")
    if chosen:
        if not Path(chosen).is_file():
            raise ValueError(f"LMBOOK_BROWSER must be the path of a Chromium, got {chosen!r}, which is not a file")
        return chosen
    found = [playwrights_own(), *map(shutil.which, NAMES), *(os.path.expandvars(place) for place in PLACES)]
    return next((path for path in found if path and Path(path).is_file()), None)


def playwrights_own() -> str | None:
    """Where Playwright's Chromium is, or would be."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def arguments() -> list[str]:
    """How to start it; without its sandbox only for root, for whom the sandbox does not start."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*ARGUMENTS, *(["--no-sandbox"] if is_root else [])]


def main() -> int:
    """Run the command line; the exit status is 0 when there is a browser."""
    path = find()
    if path is None:
        print("No Chromium was found; trying `playwright install chromium`.", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False, timeout=600)
        path = find()
    print(path or HOW_TO_INSTALL, file=sys.stdout if path else sys.stderr)
    return 0 if path else 1


if __name__ == "__main__":
    sys.exit(main())
