"""The classroom, end to end with nbgrader: hand the example exercise out, make submissions up, grade them."""

import csv
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import pytest

from lmcore.checking import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).with_name("example")
classroom = load(ROOT / "exercises" / "classroom.py")
build = classroom.build

RIGHT = {
    "mean": "return numbers.mean()",
    "normalise": "return counts / counts.sum(axis=1, keepdims=True)",
    "bigrams": "return [(tokens[i], tokens[i + 1]) for i in range(len(tokens) - 1)]",
    "draw": "return rng.choice(len(p), p=p)",
}
ENDLESS = "while True:\n        pass"
HEADS = {"mean": "numbers", "normalise": "counts", "bigrams": "tokens", "draw": "p, rng"}


def grade(course, submissions, **limits):
    """Grade as a teacher does; the rows of the CSV by student, and what was printed."""
    options = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, ROOT / "exercises" / "classroom.py", "grade", EXAMPLE, submissions, "--course", course]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    with (course / "grades" / "example.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}, done.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a course")
    assert classroom.main(["assignment", str(EXAMPLE), "--course", str(folder)]) == 0
    return folder


def answered(released, **bodies):
    """The released notebook with answers filled in."""
    nb = nbformat.read(released, as_version=4)
    for cell in nb.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in bodies:
            cell.source = f"def {name}({HEADS[name]}):\n    {bodies[name]}"
    return nb


def tampered(released):
    """Changes checks, deletes one, claims more points: everything must be as if it had not."""
    nb = answered(released, mean=RIGHT["mean"])
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in nb.cells}
    cells["check-mean"].metadata.nbgrader.points = 100
    cells["check-bigrams"].source = "print('✓')"
    cells["check-normalise"].metadata.nbgrader |= {"solution": True, "locked": False}
    cells["check-normalise"].source = "1 + 1"
    nb.cells.remove(cells["check-draw"])
    return nb


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """The rows of the CSV by student, after grading a class of every kind."""
    released = course / "release" / "example" / "example.ipynb"
    right = answered(released, **RIGHT | {"mean": "return total(numbers) / len(numbers)"})
    right.cells.insert(2, nbformat.v4.new_code_cell("def total(numbers):\n    return sum(numbers)"))
    flood = ENDLESS.replace("pass", "print('x' * 1000)")
    own_check = answered(released, **RIGHT)
    own_check.cells.insert(5, nbformat.v4.new_code_cell("check = print"))  # after the check of the first task
    notebooks = {
        "Right Ørsted": right,
        "untouched": answered(released),
        "crash": answered(released, **RIGHT | {"mean": "import os; os._exit(1)"}),
        "endless": answered(released, **RIGHT | {"mean": ENDLESS, "draw": flood}),
        "tampered": tampered(released),
        "own check": own_check,
    }
    folder = tmp_path_factory.mktemp("submissions")
    for student, nb in notebooks.items():
        (folder / student).mkdir()
        nbformat.write(nb, folder / student / "example.ipynb")
    (folder / "tampered" / "checks.py").write_text("check = print\n")
    (folder / "tampered" / "numpy.py").write_text("raise ImportError('shadowed')\n")
    wrong = answered(released, **RIGHT | {"mean": "return numbers.sum()", "bigrams": "return tokens[9]"})
    nbformat.write(wrong, folder / "wrong.ipynb")
    (folder / "broken.ipynb").write_text('{"cells": [')
    (folder / "not a notebook.ipynb").write_text("[1, 2]")
    (folder / "empty").mkdir()
    rows, output = grade(course, folder, timeout=120, cell_timeout=6)
    assert "1 crashed, 6 graded, 1 missing, 2 unreadable" in output
    return rows


def page_of(course, student):
    return (course / "grades" / "example" / f"{student}.html").read_text(encoding="utf-8")


def points(row):
    return [float(row[task]) for task in RIGHT]


def test_students_get_the_notebook_and_the_checks_only(course):
    with zipfile.ZipFile(course / "release" / "example.zip") as archive:
        files = [name for name in archive.namelist() if not name.endswith("/")]
        assert sorted(files) == ["example/checks.py", "example/example.ipynb"]
        everything = "".join(archive.read(name).decode() for name in files)
    assert "SOLUTION" not in everything
    assert "searchsorted" not in everything  # the solution of `draw`


def test_nbgrader_makes_of_the_solutions_what_the_builder_makes(course):
    released = nbformat.read(course / "release" / "example" / "example.ipynb", as_version=4)
    ours = build.notebook(build.read(EXAMPLE))
    assert [(c.cell_type, c.id, c.source) for c in released.cells] == [
        (c.cell_type, c.id, c.source) for c in ours.cells
    ]


def test_right_answers_get_all_points(graded):
    row = graded["Right Ørsted"]
    assert (points(row), row["total"], row["max"], row["status"]) == ([1, 2, 2, 3], "8", "8", "graded")


def test_the_untouched_notebook_gets_none_and_is_told_so(graded, course):
    assert (points(graded["untouched"]), graded["untouched"]["status"]) == ([0, 0, 0, 0], "graded")
    assert graded["untouched"]["message"].count("not done yet") == 4
    assert "0 of 8 points" in page_of(course, "untouched")


def test_wrong_answers_lose_their_points_and_the_page_says_why(graded, course):
    assert points(graded["wrong"]) == [0, 2, 0, 3]
    page = page_of(course, "wrong")
    for message in (
        "You summed the numbers; divide by how many there are.",
        "raised IndexError: list index",
    ):
        assert message in graded["wrong"]["message"]
        assert message in page
    assert "5 of 8 points" in page


def test_a_submission_that_crashes_or_hangs_costs_itself_only(graded, course):
    assert (graded["crash"]["status"], graded["crash"]["total"]) == ("crashed", "0")
    assert "the code ended Python" in page_of(course, "crash")
    assert (graded["endless"]["status"], points(graded["endless"])) == ("graded", [0, 2, 2, 0])
    assert graded["endless"]["message"] == "mean: stopped after 6 seconds | draw: stopped after 6 seconds"
    assert len(page_of(course, "endless")) < 5e6  # although the last task floods the output


def test_the_teachers_checks_count_whatever_a_student_did_to_them(graded):
    row = graded["tampered"]
    assert (points(row), row["total"], row["status"]) == ([1, 0, 0, 0], "1", "graded")
    assert "3 locked cells had been changed or deleted" in row["message"]
    assert row["message"].count("not done yet") == 3


def test_a_check_that_a_student_has_replaced_gives_no_points(graded):
    assert points(graded["own check"]) == [1, 0, 0, 0]
    assert graded["own check"]["message"].count("the check did not run") == 3


def test_what_cannot_be_read_is_a_row_with_its_reason(graded, course):
    assert (graded["broken"]["status"], graded["not a notebook"]["status"]) == ("unreadable", "unreadable")
    assert "cannot be read" in graded["broken"]["message"]
    assert (graded["empty"]["status"], graded["empty"]["message"]) == ("missing", "no notebook")
    assert "Not graded: no notebook." in page_of(course, "empty")


def test_pages_request_nothing(graded, course):
    pages = list((course / "grades" / "example").glob("*.html"))
    assert len(pages) == len(graded)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert not re.search(r"<script|<link|@import|@font-face|url\(['\"]?http|src=['\"]?http", text, re.IGNORECASE), (
            page.name
        )


def test_a_second_grading_forgets_the_first_and_stops_what_cannot_be_interrupted(graded, course, tmp_path):
    released = course / "release" / "example" / "example.ipynb"
    nbformat.write(answered(released), tmp_path / "wrong.ipynb")
    stubborn = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n    {ENDLESS}"
    nbformat.write(answered(released, **RIGHT | {"mean": stubborn}), tmp_path / "stubborn.ipynb")
    (tmp_path / "Right Ørsted").mkdir()
    rows, _ = grade(course, tmp_path, timeout=15, cell_timeout=10)
    assert {student: row["total"] for student, row in rows.items()} == {
        "wrong": "0",
        "stubborn": "0",
        "Right Ørsted": "0",
    }
    assert (rows["stubborn"]["status"], rows["Right Ørsted"]["status"]) == ("stopped", "missing")
    with classroom.Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        kept = {submission.student.id for submission in gradebook.assignment_submissions("example")}
    assert not kept & {"Right_Ørsted", "stubborn"}


def run_main(capsys, *arguments):
    assert classroom.main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err


def test_errors_say_what_to_do(course, tmp_path, capsys):
    grading = ("--course", course)
    assert "no exercise called '77'" in run_main(capsys, "assignment", "77", *grading)
    assert "no such folder" in run_main(capsys, "grade", EXAMPLE, tmp_path / "nowhere", *grading)
    assert "no submissions; expected folders" in run_main(capsys, "grade", EXAMPLE, tmp_path, *grading)
    assert "below --timeout 60, got 60" in run_main(capsys, "grade", EXAMPLE, tmp_path, *grading, "--cell-timeout", 60)
    for name in ("ann lee.ipynb", "ann_lee.ipynb"):
        (tmp_path / name).write_text("{}")
    assert "two submissions" in run_main(capsys, "grade", EXAMPLE, tmp_path, *grading)


def test_after_a_grading_texts_and_points_may_change_but_not_the_tasks(graded, course, tmp_path, capsys):
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    files = {name: (folder / name).read_text(encoding="utf-8") for name in ("solution.md", "checks.py", "mutants.py")}
    (folder / "solution.md").write_text(
        files["solution.md"].replace("Return the", "Please return the"), encoding="utf-8"
    )
    (folder / "checks.py").write_text(files["checks.py"].replace("points=1", "points=5"), encoding="utf-8")
    assert classroom.main(["assignment", str(folder), "--course", str(course)]) == 0
    for name, text in files.items():
        (folder / name).write_text(re.sub(r"\bdraw\b", "pick", text), encoding="utf-8")
    assert "its tasks are others than those graded before" in run_main(capsys, "assignment", folder, "--course", course)


@pytest.fixture(scope="module")
def original():
    return build.notebook(build.read(EXAMPLE))


def sources(nb):
    return [cell.source for cell in nb.cells]


def test_what_a_student_added_stays_where_it_was(original):
    nb = nbformat.from_dict(original)
    nb = nbformat.reads(nbformat.writes(nb), as_version=4)
    nb.cells.insert(0, nbformat.v4.new_code_cell("first = 1"))
    nb.cells.insert(5, nbformat.v4.new_code_cell("between = 2"))
    back, changed = classroom.restored(nb, original)
    assert (sources(back), changed) == (sources(nb), 0)


def test_a_notebook_that_lost_all_marks_is_read_by_its_functions(original):
    cells = [nbformat.v4.new_code_cell(f"def {name}({HEADS[name]}):\n    {RIGHT[name]}") for name in reversed(RIGHT)]
    back, changed = classroom.restored(nbformat.v4.new_notebook(cells=cells), original)
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in back.cells if classroom._is_answer(cell)}
    assert all(RIGHT[name] in answers[name] for name in RIGHT)
    assert (len(back.cells), changed) == (len(original.cells), 5)  # four checks and the imports


def test_both_halves_of_a_split_answer_are_kept_in_order(original):
    nb = nbformat.reads(nbformat.writes(original), as_version=4)
    at = next(i for i, cell in enumerate(nb.cells) if classroom._mark(cell) == "mean")
    nb.cells.insert(at, nbformat.from_dict(nb.cells[at]))
    nb.cells[at].source, nb.cells[at + 1].source = "import math", "def mean(numbers): return math.fsum(numbers)"
    back, _ = classroom.restored(nb, original)
    assert sources(back)[at : at + 2] == [nb.cells[at].source, nb.cells[at + 1].source]
    assert classroom._mark(back.cells[at + 1]) == "mean"


def test_a_runaway_is_stopped_by_its_memory(tmp_path):
    limits = classroom.Limits(seconds=60, cell=10, megabytes=1)
    assert classroom.run_limited(time.sleep, (50,), limits) == "stopped at 1 MB of memory"
