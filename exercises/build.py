"""Turn each exercise's `solution.md` into the notebook that students work in.

    python exercises/build.py              every exercise
    python exercises/build.py 01           the exercises whose folder begins with 01
    python exercises/build.py --check      write nothing; exit 1 if a notebook differs from its source

The notebook carries nbgrader's marks: a task's cell is the student's, everything else is locked, and each check is
worth the points that `checks.py` gives the task. Building twice gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from lmcore.checking import Task, Tasks, load, mutants_of

EXERCISES = Path(__file__).parent
STUB = "raise NotImplementedError  # your code here"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"^([ \t]*){BEGIN}\n(?:.*\n)*?[ \t]*{END}$", re.MULTILINE)
LAST_HEADING = re.compile(r"^##+ .*$(?![\s\S]*^##+ )", re.MULTILINE)
TASKS, MUTANTS = range(4, 9), 3


class ExerciseError(ValueError):
    """An exercise breaks the rules; the message has a line per problem, with its file and its task."""


@dataclass(frozen=True)
class Exercise:
    """A folder with `solution.md`, `checks.py` and `mutants.py`, read and found in order."""

    folder: Path
    cells: list[NotebookNode]
    tasks: Tasks
    mutants: list[Callable]

    @property
    def name(self) -> str:
        """The folder's name, which is also the notebook's and the assignment's."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """The student's notebook."""
        return self.folder / f"{self.name}.ipynb"


def find(name: str) -> list[Path]:
    """The exercise folders that a name stands for: a folder's path, or how the names under exercises/ begin."""
    if (Path(name) / "solution.md").is_file():
        return [Path(name).resolve()]
    found = sorted(path.parent for path in EXERCISES.glob(f"{name}*/solution.md"))
    if not found:
        raise ExerciseError(f"no exercise called {name!r}: no folder exercises/{name}*/ has a solution.md")
    return found


def read(folder: Path) -> Exercise:
    """Read an exercise and check its form.

    Raises:
        ExerciseError: A file is missing, or something in them is not as CONTRIBUTING.md describes it.
    """
    folder = Path(folder).resolve()
    missing = [name for name in ("solution.md", "checks.py", "mutants.py") if not (folder / name).is_file()]
    if missing:
        raise ExerciseError(f"{folder.name}: {' and '.join(missing)} missing")
    tasks = getattr(load(folder / "checks.py"), "tasks", None)
    if not isinstance(tasks, Tasks):
        raise ExerciseError(f"{folder.name}/checks.py: needs `tasks = Tasks()` and `check = tasks.check`")
    cells = jupytext.read(folder / "solution.md").cells
    exercise = Exercise(folder, cells, tasks, mutants_of(load(folder / "mutants.py")))
    problems = [f"{folder.name}/{problem}" for problem in (*_problems_of_text(exercise), *_problems_of_code(exercise))]
    if problems:
        raise ExerciseError("\n".join(problems))
    return exercise


def _problems_of_text(exercise: Exercise) -> Iterator[str]:
    """What is wrong in solution.md."""
    cells, seen = exercise.cells, []
    if not cells or not re.match(r"# \S", cells[0].source):
        yield "solution.md: the first cell must begin with the title, `# …`"
    for number, cell in enumerate(cells):
        if not _tagged(cell, "task"):
            if "BEGIN SOLUTION" in cell.source or "END SOLUTION" in cell.source:
                yield f"solution.md: BEGIN or END SOLUTION outside a task's cell:\n{cell.source}"
            continue
        name, problem = _task_name(cell)
        if problem:
            yield f"solution.md: {problem}:\n{cell.source}"
            continue
        seen.append(name)
        if name not in exercise.tasks:
            yield f"solution.md: task {name!r} has no check in checks.py"
        follower = cells[number + 1] if number + 1 < len(cells) else None
        if follower is None or not _tagged(follower, "check") or follower.source.strip() != f"check({name})":
            yield f"solution.md: after task {name!r} must come a cell tagged check that holds only `check({name})`"
        if _heading(cells, number) is None:
            yield f"solution.md: task {name!r} needs a Markdown cell with a heading, `## …`, before it"
    checks = sum(_tagged(cell, "check") for cell in cells)
    if checks > len(seen):
        yield f"solution.md: {checks} cells are tagged check, but only {len(seen)} tasks are in order"
    for name, count in Counter(seen).items():
        if count > 1:
            yield f"solution.md: task {name!r} has {count} cells"
    for name in exercise.tasks.keys() - set(seen):
        yield f"solution.md: task {name!r} of checks.py has no cell tagged task"


def _problems_of_code(exercise: Exercise) -> Iterator[str]:
    """What is wrong in checks.py and mutants.py."""
    if len(exercise.tasks) not in TASKS:
        yield f"checks.py: an exercise has {TASKS[0]} to {TASKS[-1]} tasks, this one has {len(exercise.tasks)}"
    count = Counter(mutant.task for mutant in exercise.mutants)
    for name in exercise.tasks:
        if count[name] < MUTANTS:
            yield f"mutants.py: task {name!r} has {count[name]} mutants and needs at least {MUTANTS}"
    for name in count.keys() - exercise.tasks.keys():
        yield f"mutants.py: a mutant is for {name!r}, which is no task of checks.py"


def _task_name(cell: NotebookNode) -> tuple[str, str]:
    """The name of the function that a task's cell defines, or "" and what is wrong with the cell."""
    if cell.source.count(BEGIN) != 1 or cell.source.count(END) != 1 or not REGION.search(cell.source):
        return "", f"a task's cell must have one `{BEGIN}`, and after it one `{END}`, each on a line of its own"
    try:
        ast.parse(cell.source)
        functions = [node for node in ast.parse(_cleared(cell.source)).body if isinstance(node, ast.FunctionDef)]
    except SyntaxError as error:
        return "", f"a task's cell must be valid Python, with and without its solution, but: {error}"
    if (
        len(functions) != 1
        or ast.get_docstring(functions[0]) is None
        or "NotImplementedError" not in ast.dump(functions[0])
    ):
        return "", "a task's cell must define one function that has a docstring and holds the solution"
    return functions[0].name, ""


def _tagged(cell: NotebookNode, tag: str) -> bool:
    """Whether a code cell has a tag."""
    return cell.cell_type == "code" and tag in cell.metadata.get("tags", [])


def _cleared(source: str) -> str:
    """A task's source with the solution replaced by the stub, as deeply indented."""
    return REGION.sub(rf"\g<1>{STUB}", source)


def _heading(cells: list[NotebookNode], task: int) -> int | None:
    """The index of the Markdown cell with a task's heading: the last one since the task before."""
    for number in range(task - 1, -1, -1):
        if _tagged(cells[number], "check"):
            return None
        if cells[number].cell_type == "markdown" and LAST_HEADING.search(cells[number].source):
            return number
    return None


def _cost(*tasks: Task) -> str:
    """What tasks bring and take, as a student reads it."""
    points, minutes = sum(task.points for task in tasks), sum(task.minutes for task in tasks)
    return f"{points} {'point' if points == 1 else 'points'}, about {minutes} {'minute' if minutes == 1 else 'minutes'}"


def _summary(exercise: Exercise) -> str:
    """What a whole exercise brings and takes."""
    return f"{len(exercise.tasks)} tasks, {_cost(*exercise.tasks.values())}"


def _marks(exercise: Exercise, cell: NotebookNode, number: int) -> dict:
    """A cell's metadata; text has no `grade_id`, so it may change after a grading, which nbgrader else forbids."""
    if cell.cell_type != "code":
        return {"deletable": False, "editable": False}
    marks = {"schema_version": 3, "task": False, "grade": False, "solution": False, "locked": True}
    if _tagged(cell, "task"):
        marks |= {"grade_id": _task_name(cell)[0], "solution": True, "locked": False}
        return {"deletable": False, "nbgrader": marks}
    if _tagged(cell, "check"):
        name = re.fullmatch(r"check\((\w+)\)", cell.source.strip())[1]
        marks |= {"grade_id": f"check-{name}", "grade": True, "points": exercise.tasks[name].points}
    else:
        marks |= {"grade_id": f"code-{number}"}
    return {"deletable": False, "editable": False, "nbgrader": marks}


def notebook(exercise: Exercise, *, solutions: bool = False) -> NotebookNode:
    """The notebook of an exercise with nbgrader's marks: for students, or with the solutions, for nbgrader."""
    sources = [cell.source for cell in exercise.cells]
    title, below, rest = sources[0].partition("\n")
    sources[0] = f"{title}\n\n*{_summary(exercise)}*{below}{rest}"
    for number, cell in enumerate(exercise.cells):
        if _tagged(cell, "task"):
            task, heading = exercise.tasks[_task_name(cell)[0]], _heading(exercise.cells, number)
            sources[heading] = re.sub(LAST_HEADING, rf"\g<0>\n\n*{_cost(task)}*", sources[heading])

    cells, seen = [], Counter()
    for cell, source in zip(exercise.cells, sources, strict=True):
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        digest = hashlib.sha256(f"{cell.cell_type}:{_cleared(source)}".encode()).hexdigest()[:10]
        seen[digest] += 1
        seen[cell.cell_type] += 1
        metadata = _marks(exercise, cell, seen["code"])
        cells.append(new(source if solutions else _cleared(source), id=f"{digest}-{seen[digest]}", metadata=metadata))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata, nbformat_minor=5)


def text(exercise: Exercise) -> str:
    """The student's notebook as its file holds it."""
    return nbformat.writes(notebook(exercise)) + "\n"


def is_current(exercise: Exercise) -> bool:
    """Whether the student's notebook is what its source gives."""
    return exercise.path.is_file() and exercise.path.read_text(encoding="utf-8") == text(exercise)


def write(exercise: Exercise) -> None:
    """Write the student's notebook, whole or not at all."""
    partial = exercise.path.with_suffix(".partial")
    partial.write_text(text(exercise), encoding="utf-8")
    os.replace(partial, exercise.path)


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[""], help="how folders under exercises/ begin, or their paths")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a notebook is out of date")
    args = parser.parse_args(argv)
    stale = False
    try:
        for folder in dict.fromkeys(folder for name in args.names for folder in find(name)):
            exercise = read(folder)
            current = is_current(exercise)
            stale |= not current
            if not current and not args.check:
                write(exercise)
            state = "up to date" if current else "out of date" if args.check else "written"
            print(f"{exercise.name}: {_summary(exercise)}: {state}")
    except ExerciseError as error:
        print(error, file=sys.stderr)
        return 1
    return int(stale and args.check)


if __name__ == "__main__":
    sys.exit(main())
