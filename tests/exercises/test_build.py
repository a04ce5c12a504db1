"""The builder: what it makes of the example exercise, and what it says of a broken one."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from lmcore.checking import load

build = load(Path(__file__).resolve().parents[2] / "exercises" / "build.py")


@pytest.fixture
def folder(tmp_path):
    """A copy of the example that a test may break."""
    return Path(shutil.copytree(Path(__file__).with_name("example"), tmp_path / "example"))


def change(path, old, new):
    """Replace the first occurrence in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_notebook_is_nbgraders_and_the_same_each_time(folder):
    assert build.main([str(folder)]) == 0
    path = folder / "example.ipynb"
    first = path.read_bytes()
    path.unlink()
    assert build.main([str(folder)]) == 0
    assert path.read_bytes() == first
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "checks.py", "example.ipynb", "mutants.py", "solution.md",
    ]  # fmt: skip

    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    MetadataValidator().validate_nb(nb)
    assert nb.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)
    assert all(not cell.outputs and cell.execution_count is None for cell in nb.cells if cell.cell_type == "code")


def test_a_task_is_the_students_and_the_rest_is_locked(folder):
    nb = build.notebook(build.read(folder))
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in nb.cells if cell.cell_type == "code"}
    names = ["mean", "normalise", "bigrams", "draw"]
    assert list(cells) == ["code-1", *(key for name in names for key in (name, f"check-{name}"))]
    task, check = cells["bigrams"], cells["check-bigrams"]
    assert (task.metadata.nbgrader.solution, task.metadata.nbgrader.locked, "editable" in task.metadata) == (
        True,
        False,
        False,
    )
    assert (check.metadata.nbgrader.grade, check.metadata.nbgrader.points, check.metadata.editable) == (True, 2, False)
    assert all(
        cell.metadata.editable is False
        for key, cell in cells.items()
        if key not in ("mean", "normalise", "bigrams", "draw")
    )
    assert task.source == (
        'def bigrams(tokens):\n    """The pairs of neighbours, in order."""\n    pairs = []\n'
        "    for i in range(len(tokens) - 1):\n        raise NotImplementedError  # your code here\n    return pairs"
    )


def test_points_and_minutes_stand_under_the_headings(folder):
    texts = [cell.source for cell in build.notebook(build.read(folder)).cells if cell.cell_type == "markdown"]
    assert texts[0].startswith("# An example\n\n*4 tasks, 8 points, about 21 minutes*\n\nIt is here")
    assert texts[1] == "## Warm-up: the mean\n\n*1 point, about 1 minute*\n\nReturn the mean of an array."
    assert texts[3] == "## Bigrams\n\n*2 points, about 5 minutes*"


def test_no_solution_is_left(folder):
    exercise = build.read(folder)
    assert "SOLUTION" not in build.text(exercise)
    assert "searchsorted" not in build.text(exercise)
    with_solutions = build.notebook(exercise, solutions=True)
    assert sum("BEGIN SOLUTION" in cell.source for cell in with_solutions.cells) == 4
    assert [cell.id for cell in with_solutions.cells] == [cell.id for cell in build.notebook(exercise).cells]


def test_check_tells_a_stale_notebook_and_writes_nothing(folder, capsys):
    assert build.main([str(folder), "--check"]) == 1
    assert not (folder / "example.ipynb").exists()
    build.main([str(folder)])
    assert build.main([str(folder), "--check"]) == 0
    change(folder / "checks.py", "points=1", "points=4")
    assert build.main([str(folder), "--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "example: 4 tasks, 11 points, about 21 minutes: out of date"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("solution.md", "    ### END SOLUTION\n", "", "solution.md: a task's cell must have one `### BEGIN SOLUTION`"),
        ("solution.md", "### BEGIN SOLUTION", "### END SOLUTION", "and after it one `### END SOLUTION`"),
        ("solution.md", "import numpy as np", "### BEGIN SOLUTION", "BEGIN or END SOLUTION outside a task's cell"),
        ("solution.md", "numbers.sum() /", "numbers.sum( /", "must be valid Python, with and without its solution"),
        ("solution.md", '    """The mean of a one-dimensional array."""\n', "", "one function that has a docstring"),
        ("solution.md", "check(mean)", "check(average)", "after task 'mean' must come a cell tagged check"),
        ("solution.md", "check(mean)", "check(mean, seed=1)", "that holds only `check(mean)`"),
        ("solution.md", "def mean(", "def average(", "task 'average' has no check in checks.py"),
        ("solution.md", "def mean(", "def average(", "task 'mean' of checks.py has no cell tagged task"),
        ("solution.md", "def normalise(", "def mean(", "task 'mean' has 2 cells"),
        ("solution.md", "## Bigrams", "Bigrams", "task 'bigrams' needs a Markdown cell with a heading"),
        ("solution.md", "# An example", "An example", "the first cell must begin with the title"),
        ("solution.md", "ipython3\nimport", "ipython3\n:tags: [check]\n\nimport", "5 cells are tagged check, but"),
        ("mutants.py", '@mutant("draw", ', '@mutant("mean", ', "task 'draw' has 2 mutants and needs at least 3"),
        ("mutants.py", '@mutant("draw", ', '@mutant("drawing", ', "mutants.py: a mutant is for 'drawing', which is no"),
    ],
)  # fmt: skip
def test_a_broken_exercise_is_told_its_file_and_task(folder, file, old, new, message, capsys):
    change(folder / file, old, new)
    assert build.main([str(folder)]) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "example.ipynb").exists()


def test_checks_must_hold_four_to_eight_tasks(folder):
    (folder / "checks.py").write_text("from lmcore.checking import Tasks\ntasks = Tasks()\n")
    with pytest.raises(build.ExerciseError, match="has 4 to 8 tasks, this one has 0"):
        build.read(folder)
    (folder / "checks.py").write_text("def check(student): ...\n")
    with pytest.raises(build.ExerciseError, match=r"example/checks\.py: needs `tasks = Tasks\(\)`"):
        build.read(folder)


def test_missing_files_and_unknown_names_are_told(folder):
    (folder / "mutants.py").unlink()
    with pytest.raises(build.ExerciseError, match=r"example: mutants\.py missing"):
        build.read(folder)
    with pytest.raises(build.ExerciseError, match=r"no exercise called '77'"):
        build.find("77")
