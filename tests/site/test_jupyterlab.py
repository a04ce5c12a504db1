"""Chapter 1 in a real JupyterLab: it opens, all its cells run, and no error is seen."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
START = 90  # seconds that the server may take to start, and the page to open
RUN = 420  # seconds that the cells may take; a chapter has a minute, but other tests may be running beside it

# What JupyterLab writes on the console by itself: part of the message: why it says nothing about the chapter.
KNOWN_MESSAGES = {
    "_markdownOverlapsToolbar": "JupyterLab 4.6 measures Markdown before jupyterlab-myst has drawn it",
}

# The notebook that is open: its code cells' counts and outputs, and what the kernel does.
STATE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    if (!panel?.context?.isReady || !panel.content?.model) return null;
    const cells = Array.from(panel.content.model.cells).filter(cell => cell.type === 'code');
    return {
        kernel: panel.sessionContext.session?.kernel?.status ?? 'none',
        counts: cells.map(cell => cell.executionCount),
        errors: cells.flatMap((cell, index) => cell.outputs.toJSON()
            .filter(output => output.output_type === 'error'
                && !(cell.metadata.tags ?? []).includes('raises-exception'))
            .map(output => `code cell ${index + 1}: ${output.ename}: ${output.evalue}`)),
    };
}"""


@pytest.fixture
def chapter_copy(tmp_path) -> Path:
    """A copy of chapter 1 without outputs, so that what is seen was computed here."""
    source = next((ROOT / "chapters").glob("01_*.ipynb"))
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (tmp_path / "notebooks").mkdir()
    copy = tmp_path / "notebooks" / source.name
    nbformat.write(notebook, copy)
    return copy


@pytest.fixture
def lab(tmp_path, chapter_copy):
    """JupyterLab on this computer only, with settings of its own; yields its address and its token."""
    token = secrets.token_hex(16)
    folders = {name: tmp_path / name.lower() for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    environment = {**os.environ, **{f"JUPYTER_{name}": str(folder) for name, folder in folders.items()}}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    for folder in folders.values():
        folder.mkdir()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--IdentityProvider.token={token}"),
        f"--ServerApp.root_dir={chapter_copy.parent}",
        *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield wait_for_server(process, folders["RUNTIME_DIR"], log), token
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=30)


def wait_for_server(process, runtime: Path, log: Path) -> str:
    """The address that the server has written down about itself."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"JupyterLab ended:\n{log.read_text()[-3000:]}")
        for path in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())["url"]
            except (ValueError, KeyError):
                pass  # it is just being written
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start in {START} s:\n{log.read_text()[-3000:]}")


def test_chapter_1_runs_in_jupyterlab_without_an_error(chromium, lab, chapter_copy):
    address, token = lab
    trouble = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.on("console", lambda said: said.type == "error" and trouble.append(f"{said.text} {said.location['url']}"))
    tab.on("pageerror", lambda error: trouble.append(error.stack or str(error)))
    tab.goto(f"{address}lab/tree/{chapter_copy.name}?token={token}", timeout=START * 1000)
    tab.wait_for_function(f"() => ({STATE})()?.kernel === 'idle'", timeout=START * 1000)
    n_code = sum(cell.cell_type == "code" for cell in nbformat.read(chapter_copy, as_version=4).cells)
    assert tab.evaluate(STATE)["counts"] == [None] * n_code

    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    done = (
        f"() => {{ const s = ({STATE})();"
        " return s.errors.length > 0 || s.kernel === 'idle' && s.counts.every(count => count !== null); }"
    )
    tab.wait_for_function(done, timeout=RUN * 1000, polling=500)
    state = tab.evaluate(STATE)
    assert state["errors"] == []
    assert sorted(state["counts"]) == list(range(1, n_code + 1))
    assert tab.locator(".jp-Dialog").count() == 0
    unknown = [text for text in trouble if not any(part in text for part in KNOWN_MESSAGES)]
    assert unknown == []
    context.close()
