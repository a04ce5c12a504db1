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


def test_a_skipped_test_fails_in_ci_with_several_workers_too(tmp_path):
    (tmp_path / "test_x.py").write_text("import pytest\n\ndef test_x():\n    pytest.skip('no oracle')\n")
    in_ci = run(tmp_path, "-n", "2", "--dist", "loadfile", ci="true")
    assert in_ci.returncode == 1
    assert "no oracle" in in_ci.stdout


def test_the_tests_of_a_file_and_the_cells_of_a_notebook_stay_on_one_worker(tmp_path):
    made = "import os\n\nfirst = []\n\n"
    body = "    first.append(os.environ['PYTEST_XDIST_WORKER'])\n    assert len(set(first)) == 1\n"
    for file in "abc":
        tests = [f"def test_{number}():\n{body}    assert len(first) == {number + 1}\n" for number in range(7)]
        (tmp_path / f"test_{file}.py").write_text(made + "\n".join(tests))
        cells = [nbformat.v4.new_code_cell(f"x = {'x + 1' if number else 0}") for number in range(7)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{file}.ipynb")
    done = run(tmp_path, "-n", "2", "--dist", "loadfile", "--nbval", "--nbval-current-env")
    assert done.returncode == 0, done.stdout
    assert "42 passed" in done.stdout


@pytest.mark.parametrize(("stored", "expected"), [("2\n", 0), ("3\n", 1)])
def test_an_output_that_differs_is_a_failure(tmp_path, stored, expected):
    cell = nbformat.v4.new_code_cell("print(1 + 1)", outputs=[nbformat.v4.new_output("stream", text=stored)])
    cell.execution_count = 1
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "x.ipynb")
    assert run(tmp_path, "--nbval", "--nbval-current-env", "x.ipynb").returncode == expected
