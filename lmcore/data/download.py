"""Two ways to bring one file of the Python package index into a folder, both without running anything in it.

A wheel is fetched by the reader's own pip, so that index, mirror, proxy and certificates are the reader's. For a source
archive pip would run the project's set-up code, only to read its metadata; so its address is looked up on the index
that pip is configured for, and the file is downloaded and nothing more.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PATIENCE = 60.0  # seconds without a byte after which a connection is given up


def by_pip(requirement: str, options: tuple[str, ...], folder: Path, timeout: float) -> str:
    """Let pip put a wheel into a folder, without its dependencies and without installing it; return its complaints."""
    command = [sys.executable, "-m", "pip", "download", requirement, *options, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    screen = None if sys.stdout.isatty() else subprocess.DEVNULL  # pip's progress bar
    patience = {"PIP_RETRIES": "2"}  # a default; pip itself gives a silent connection up after 15 s
    try:
        done = subprocess.run(
            command, stdout=screen, stderr=subprocess.PIPE, text=True, timeout=timeout, env=patience | os.environ
        )
    except subprocess.TimeoutExpired:
        return f"no end after {timeout:.0f} s"
    reason = done.stderr.strip()
    if "No module named pip" in reason:
        reason += "\nThis Python has no pip: python -m ensurepip installs it."
    return reason


def pip_settings() -> dict[str, str]:
    """What pip is configured for, by the environment or else by its files: ``{"index-url": …, "cert": …}``."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    settings = {}
    for rank in ("global", "download", ":env:"):  # a later one wins
        for name, value in re.findall(rf"^{rank}\.([\w-]+)=('.*'|\".*\")$", done.stdout, re.M):
            settings[name] = ast.literal_eval(value)
    return settings


def from_index(project: str, file: str, folder: Path) -> str:
    """Download one file from the index that pip is configured for, or from a folder that it looks into.

    Returns:
        What went wrong, empty if nothing did.
    """
    settings = pip_settings()
    for place in settings.get("find-links", "").split():
        if (local := Path(place.removeprefix("file://")) / file).is_file():
            shutil.copyfile(local, folder / file)
            return ""
    if settings.get("no-index", "0") not in ("0", "false", "False"):
        return f"pip is told to use no index, and {file} is in none of its folders (find-links)"
    try:
        import pypi_simple
        import requests  # its errors are OSErrors
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed, which source archives need: python -m pip install 'lmcore[data]'"
    endpoint = settings.get("index-url", pypi_simple.PYPI_SIMPLE_ENDPOINT)
    try:
        with requests.Session() as session, pypi_simple.PyPISimple(endpoint, session=session) as index:
            session.verify = settings.get("cert", session.verify)
            session.proxies |= {scheme: settings["proxy"] for scheme in ("http", "https") if "proxy" in settings}
            _download(index, project, file, folder)
    except (
        pypi_simple.NoSuchProjectError,
        requests.RequestException,
        pypi_simple.UnsupportedContentTypeError,
    ) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _download(index, project: str, file: str, folder: Path) -> None:  # noqa: ANN001 (pypi_simple.PyPISimple)
    """Find the file on the project's page and fetch it."""
    import pypi_simple

    for package in index.get_project_page(project, timeout=PATIENCE).packages:
        if package.filename == file:
            bar = pypi_simple.tqdm_progress_factory(disable=None)
            # its hash is compared by the caller, with the one that is pinned and not with the index's
            index.download_package(package, folder / file, verify=False, progress=bar, timeout=PATIENCE)
