"""The suite's own promises: what is skipped fails in CI, and a notebook's outputs are really compared."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).resolve().parent


def run(folder: Path, *arguments: str, ci: str = "") -> subprocess.CompletedProcess:
    """Run pytest in a folder of its own, away from this project's settings."""
    shutil.copy(HERE / "conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("how", ["pytest.skip('no oracle')", "pytest.importorskip('no_such_oracle')"])
def test_a_skipped_test_fails_in_ci_and_says_so(tmp_path, how):
    (tmp_path / "test_x.py").write_text(f"import pytest\n\ndef test_x():\n    {how}\n\ndef test_y():\n    pass\n")
    assert run(tmp_path).returncode == 0
    in_ci = run(tmp_path, ci="true")
    assert in_ci.returncode == 1
    assert "skipped, which CI does not allow" in in_ci.stdout
    assert "oracle" in in_ci.stdout


@pytest.mark.parametrize(("stored", "expected"), [("2\n", 0), ("3\n", 1)])
def test_an_output_that_differs_is_a_failure(tmp_path, stored, expected):
    cell = nbformat.v4.new_code_cell("print(1 + 1)", outputs=[nbformat.v4.new_output("stream", text=stored)])
    cell.execution_count = 1
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "x.ipynb")
    assert run(tmp_path, "--nbval", "--nbval-current-env", "x.ipynb").returncode == expected
