"""Hand an exercise out and grade what comes back, offline, with nbgrader.

    python exercises/classroom.py assignment 01                  classroom/release/: a folder and a .zip for students
    python exercises/classroom.py grade 01 path/to/submissions   classroom/grades/: a CSV, and a page per student

Submissions are folders named after the students, each with the notebook, or notebooks `STUDENT.ipynb`. Only the
student's own cells are taken from them; checks, points and `checks.py` are the teacher's. Each is graded in a process
of its own with limits on time, memory and file size, so one that hangs or crashes costs itself only.

Grading runs the students' code with your rights. The limits stop accidents, not attacks: see exercises/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import html
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade
from tqdm import tqdm
from traitlets.config import Config

from lmcore.checking import load

build = load(Path(__file__).with_name("build.py"))
Exercise, ExerciseError = build.Exercise, build.ExerciseError

COURSE = Path(__file__).resolve().parent.parent / "classroom"
LARGEST_FILE = 64 * 2**20  # bytes that a submission may write into one file, and that its notebook may have
# A student's page requests nothing and runs nothing, whatever a submission has put into its outputs.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
REMOTE = r"<script\b.*?</script\s*>|@font-face\s*\{.*?\}"  # what nbgrader's page would request
STYLE = "<style>body { font-family: sans-serif; margin: 1em } div.output pre { white-space: pre-wrap }</style>"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one submission may take: seconds in all, seconds for one cell, and megabytes of memory."""

    seconds: int = 60
    cell: int = 10
    megabytes: int = 4000

    def __post_init__(self):
        if not 0 < self.cell < self.seconds:
            raise ExerciseError(f"--cell-timeout must be above 0 and below --timeout {self.seconds}, got {self.cell}")


@dataclass
class Result:
    """What grading one submission gave: points and messages by task, and what a teacher should know."""

    student: str
    status: str = "graded"
    note: str = ""
    points: dict[str, float] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """All messages on one line."""
        return " | ".join(filter(None, [self.note, *self.messages.values()]))


# -- handing out -----------------------------------------------------------------------------------------------------


class RequireVerdict(NbGraderPreprocessor):
    """Fails a check that did not say it passed; nbgrader is content if nothing fails, so with `check = print`, too."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        """Add an error to a check's outputs unless one of them is the verdict, or an error."""
        task = _mark(cell).removeprefix("check-")
        said = "".join(output.get("text", "") for output in cell.get("outputs", []))
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        if is_grade(cell) and not failed and f"✓ {task}: passed" not in said:
            text = f"{task}: the check did not run. Has another cell given the name `check` to something else?"
            error = nbformat.v4.new_output("error", ename="CheckFailed", evalue=text, traceback=[f"✗ {text}"])
            cell.outputs.append(error)
        return cell, resources


def nbgrader(course: Path, cell_timeout: int = Limits.cell) -> NbGraderAPI:
    """nbgrader, working in a course folder."""
    programs = str(Path(sys.executable).parent)  # nbgrader starts `alembic` by name, which lies beside this Python
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = programs + os.pathsep + os.environ.get("PATH", "")
    config = Config()
    config.CourseDirectory.root = str(course)
    config.ClearSolutions.code_stub = {"python": build.STUB}
    config.Execute.timeout = cell_timeout
    execute, *others = Autograde().autograde_preprocessors
    config.Autograde.autograde_preprocessors = [execute, RequireVerdict, *others]
    config.NbGraderAPI.log_level = "ERROR"
    return NbGraderAPI(config=config)


def prepare(exercise: Exercise, course: Path) -> Path:
    """Give an exercise to nbgrader as it is now: into its gradebook, and without solutions into the folder returned."""
    source = course / "source" / exercise.name
    source.mkdir(parents=True, exist_ok=True)
    nbformat.write(build.notebook(exercise, solutions=True), source / exercise.path.name)
    shutil.copy(exercise.folder / "checks.py", source)
    outcome = nbgrader(course).generate_assignment(exercise.name)
    if not outcome["success"]:
        log = outcome.get("log", "") + outcome["error"]
        if "Cannot add or remove cells" in log:
            reason = "its tasks are others than those graded before: use another --course folder, or restore the tasks"
            raise ExerciseError(f"{exercise.name}: {reason}")
        raise ExerciseError(f"{exercise.name}: nbgrader could not make the assignment:\n{log}")
    return course / "release" / exercise.name


def assignment(exercise: Exercise, course: Path) -> None:
    """Write what students get."""
    release = prepare(exercise, course)
    archive = shutil.make_archive(str(release), "zip", release.parent, release.name)
    print(f"Hand out {release}/ or {archive}: {', '.join(sorted(path.name for path in release.iterdir()))}")


# -- collecting ------------------------------------------------------------------------------------------------------


def submissions(folder: Path, name: str) -> dict[str, Path | str]:
    """Each student's notebook, or why there is none."""
    found: dict[str, Path | str] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__")) or not (entry.is_dir() or entry.suffix == ".ipynb"):
            continue
        student = entry.name if entry.is_dir() else entry.stem
        if any(student_id(student) == student_id(other) for other in found):
            raise ExerciseError(f"{folder}: two submissions of {student!r}, or of names that differ only in signs")
        found[student] = _notebook_in(entry, name) if entry.is_dir() else entry
    if not found:
        raise ExerciseError(f"{folder}: no submissions; expected folders STUDENT/{name}.ipynb or files STUDENT.ipynb")
    return found


def student_id(student: str) -> str:
    """A student's name as nbgrader's folders can carry it: no blanks, dots, slashes or wildcards."""
    return re.sub(r"[^\w-]+", "_", student)


def _notebook_in(folder: Path, name: str) -> Path | str:
    """The one notebook of a student's folder, or why there is none."""
    notebooks = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    named = [path for path in notebooks if path.stem == name] or notebooks
    if len(named) == 1:
        return named[0]
    return f"{len(named)} notebooks, and it is unclear which one counts" if named else "no notebook"


def restored(submitted: NotebookNode, original: NotebookNode) -> tuple[NotebookNode, int]:
    """A student's answers in the notebook that was handed out, and how many locked code cells had been changed.

    nbgrader puts back the text of a locked cell, but not a deleted cell or one whose marks were edited. Here everything
    but the answers comes from the original; the student's additional cells stay where they were.
    """
    place: dict[tuple[str, str], int] = {}
    for number, cell in enumerate(original.cells):
        keys = (("source", cell.source), ("id", cell.id), ("mark", _mark(cell)))
        place |= {key: number for key in keys if key[1]}
    numbers = []
    for cell in submitted.cells:
        keys = (("mark", _mark(cell)), ("id", cell.get("id", "")), ("source", cell.source))
        numbers.append(next((place[key] for key in keys if key in place), None))
    for task, cell in enumerate(original.cells):
        if _is_answer(cell) and task not in numbers:  # the marks are lost, as in a copy: go by the function's name
            for i, candidate in enumerate(submitted.cells):
                if numbers[i] is None and re.search(rf"^def {_mark(cell)}\b", candidate.source, re.MULTILINE):
                    numbers[i] = task

    found: dict[int, NotebookNode] = {}
    extra, last = defaultdict(list), -1
    for number, cell in zip(numbers, submitted.cells, strict=True):
        if number is None:
            extra[last].append(cell)
            continue
        if number in found and _is_answer(original.cells[number]):  # a split or copied answer: all parts are run
            extra[number - 1].append(found[number])
        found[number], last = cell, number

    cells, changed = [_plain(cell) for cell in extra[-1]], 0
    for number, cell in enumerate(original.cells):
        cell = NotebookNode(cell)
        if _is_answer(cell) and number in found:
            cell.source = found[number].source
        elif cell.cell_type == "code":
            changed += number not in found or found[number].source != cell.source
        cells += [cell, *map(_plain, extra[number])]
    return nbformat.v4.new_notebook(cells=cells, metadata=original.metadata, nbformat_minor=5), changed


def _mark(cell: NotebookNode) -> str:
    """The name that nbgrader knows a cell by."""
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def _is_answer(cell: NotebookNode) -> bool:
    """Whether a cell of the original is the student's to write."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def _plain(cell: NotebookNode) -> NotebookNode:
    """A student's additional cell without marks and outputs."""
    return (nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell)(cell.source)


# -- grading ---------------------------------------------------------------------------------------------------------


def grade_one(name: str, student: str, course: Path, cell_timeout: int, log: Path) -> None:
    """Grade one submission that lies in nbgrader's folder, in a process of its own, whose output goes to a file."""
    with log.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    api = nbgrader(course, cell_timeout)
    for step in (api.autograde, api.generate_feedback):
        outcome = step(name, student)
        if not outcome["success"]:
            sys.exit(outcome.get("log", "") + outcome["error"])


def run_limited(target: Callable, arguments: tuple, limits: Limits) -> str:
    """Call a function in a new process; "" if all went well, else why not. Leaves no process behind."""
    # A server that has imported nbgrader once forks a clean process in no time; a new Python would take seconds.
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(["nbgrader.apps", "jupytext"])
    process = context.Process(target=target, args=arguments)
    process.start()
    end, family = time.monotonic() + limits.seconds, set()
    try:
        while process.exitcode is None:
            with contextlib.suppress(psutil.Error):
                worker = psutil.Process(process.pid)
                family |= {worker, *worker.children(recursive=True)}
            if time.monotonic() > end:
                return f"stopped after {limits.seconds} seconds"
            if sum(map(_memory, family)) > limits.megabytes * 2**20:
                return f"stopped at {limits.megabytes} MB of memory"
            process.join(0.1)
        return f"nbgrader ended with status {process.exitcode}" if process.exitcode else ""
    finally:  # kernels have sessions of their own, so that killing a process group would miss them
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        process.join()


def _memory(process: psutil.Process) -> int:
    """Bytes of memory that a process holds; 0 when it has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def grade_submission(exercise: Exercise, student: str, path: Path | str, course: Path, limits: Limits) -> Result:
    """Grade one submission, whatever state it is in."""
    name, key = exercise.name, student_id(student)
    if isinstance(path, str):
        return Result(student, "missing", path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        submitted = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        answers, changed = restored(submitted, nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4))
    except Exception as error:  # a student's file may be anything
        return Result(student, "unreadable", f"the notebook cannot be read: {type(error).__name__}: {str(error)[:200]}")
    folder = course / "submitted" / key / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    nbformat.write(answers, folder / f"{name}.ipynb")

    log = course / "logs" / name / f"{key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reason = run_limited(grade_one, (name, key, course, limits.cell, log), limits)
    if reason:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 100_000))
            crashed = b"DeadKernelError" in file.read()
        if crashed:
            return Result(student, "crashed", "the code ended Python (by exit, os._exit or a crash)")
        if reason.startswith("stopped"):
            return Result(student, "stopped", reason)
        return Result(student, "failed", f"{reason}; {log.relative_to(course)} in the course folder says why")
    result = scores(name, student, course, limits)
    if changed:
        result.note = f"{changed} locked {'cell' if changed == 1 else 'cells'} had been changed or deleted: put back"
    return result


def scores(name: str, student: str, course: Path, limits: Limits) -> Result:
    """Points from nbgrader's gradebook, and for each task that lost some the message in the student's notebook."""
    result, key = Result(student), student_id(student)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for grade in gradebook.find_submission_notebook(name, name, key).grades:
            result.points[grade.name.removeprefix("check-")] = grade.score
    errors = {}
    for cell in nbformat.read(course / "autograded" / key / name / f"{name}.ipynb", as_version=4).cells:
        outputs = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if outputs:
            errors[_mark(cell)] = outputs[0]
    for task in result.points:
        error = errors.get(f"check-{task}")
        if error is not None and error.ename == "NameError":  # because the cell that defines it failed
            error = errors.get(task, error)
        if error is not None:
            late = error.ename in ("KeyboardInterrupt", "CellTimeoutError")
            what = f"stopped after {limits.cell} seconds" if late else f"{error.ename}: {error.evalue}"
            result.messages[task] = error.evalue if error.ename == "CheckFailed" else f"{task}: {what}"
    return result


def grade(exercise: Exercise, folder: Path, course: Path, limits: Limits) -> None:
    """Grade all submissions in a folder, and write the CSV and the students' pages."""
    found = submissions(folder, exercise.name)
    prepare(exercise, course)
    pages = course / "grades" / exercise.name
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    results = []
    for student, path in tqdm(found.items(), desc=exercise.name, unit="student", disable=None):
        result = grade_submission(exercise, student, path, course, limits)
        if result.status != "graded":  # the gradebook must not keep what an earlier submission got
            with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook, contextlib.suppress(MissingEntry):
                gradebook.remove_submission(exercise.name, student_id(student))
        (pages / f"{student_id(student)}.html").write_text(page(exercise, result, course), encoding="utf-8")
        results.append(result)
    table = course / "grades" / f"{exercise.name}.csv"
    write_table(exercise, results, table)
    counts = {status: sum(result.status == status for result in results) for status in {r.status for r in results}}
    print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + f": {table} and {pages}/")


# -- reporting -------------------------------------------------------------------------------------------------------


def write_table(exercise: Exercise, results: list[Result], path: Path) -> None:
    """Write the CSV, whole or not at all."""
    most = sum(task.points for task in exercise.tasks.values())
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", *exercise.tasks, "total", "max", "status", "message"])
        for result in results:
            points = [result.points.get(task, 0) for task in exercise.tasks]
            numbers = [f"{number:g}" for number in (*points, sum(points), most)]
            table.writerow([result.student, *numbers, result.status, result.message])
    os.replace(partial, path)


def page(exercise: Exercise, result: Result, course: Path) -> str:
    """A student's page: the points and messages in a table, and below it nbgrader's page with the notebook."""
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">{STYLE}'
    total, most = sum(result.points.values()), sum(task.points for task in exercise.tasks.values())
    title = f"{html.escape(result.student)}: {total:g} of {most} points"
    if result.status != "graded":
        body = f"<h1>{title}</h1><p>Not graded: {html.escape(result.note)}.</p>"
        head += f"<title>{exercise.name}</title>"
        return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body>{body}</body></html>\n"
    rows = "".join(
        f"<tr><td><a href='#check-{name}'>{html.escape(task.title)}</a></td>"
        f"<td>{result.points.get(name, 0):g} / {task.points}</td>"
        f"<td>{html.escape(result.messages.get(name, '').removeprefix(f'{name}: '))}</td></tr>"
        for name, task in exercise.tasks.items()
    )
    table = f"<table class='table'><tr><th>Task</th><th>Points</th><th>What the check says</th></tr>{rows}</table>"
    summary = f"<div class='container'><h1>{title}</h1><p>{html.escape(result.note)}</p>{table}</div>"
    theirs = course / "feedback" / student_id(result.student) / exercise.name / f"{exercise.name}.html"
    text = re.sub(REMOTE, "", theirs.read_text(encoding="utf-8"), flags=re.DOTALL | re.IGNORECASE)
    text = re.sub("<meta charset=[^>]*>", lambda _: head, text, count=1)
    return text.replace('<a name="top"></a>', f'<a name="top"></a>{summary}', 1)


# -- the command line ------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="assignment | grade")
    for command, purpose in (("assignment", "write what students get"), ("grade", "grade a folder of submissions")):
        sub = commands.add_parser(command, help=purpose, description=purpose)
        sub.add_argument("exercise", help="how the exercise's folder begins, as in 01, or its path")
        sub.add_argument("--course", type=Path, default=COURSE, help="nbgrader's course folder (classroom/)")
    sub.add_argument("submissions", type=Path, help="a folder with a folder or a notebook per student")
    sub.add_argument("--timeout", type=int, default=Limits.seconds, help="seconds for one submission (60)")
    sub.add_argument("--cell-timeout", type=int, default=Limits.cell, help="seconds for one cell (10)")
    sub.add_argument("--memory", type=int, default=Limits.megabytes, help="megabytes for one submission (4000)")
    args = parser.parse_args(argv)
    course = args.course.resolve()
    try:
        folders = build.find(args.exercise)
        if len(folders) > 1:
            raise ExerciseError(f"{args.exercise!r} is not one exercise but {', '.join(f.name for f in folders)}")
        if args.command == "assignment":
            assignment(build.read(folders[0]), course)
        elif not args.submissions.is_dir():
            raise ExerciseError(f"no such folder: {args.submissions}")
        else:
            limits = Limits(seconds=args.timeout, cell=args.cell_timeout, megabytes=args.memory)
            grade(build.read(folders[0]), args.submissions, course, limits)
    except ExerciseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
