"""The harness of the exercises: the same checks serve the student in the notebook, the teacher's grader and CI.

An exercise's `checks.py` makes one `Tasks()` and adds a function per task; a notebook calls `check(students_function)`.
What a student sees is one sentence that names the likely misconception, never a traceback through the checks.

Unlike pytest: the inputs are new at every call, drawn from a seed that the message repeats. Not a jail: the student's
function runs in this process, with every right that the process has.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_STUB = (None, ...)  # what a function returns, or holds, whose body is still to be written
_MISSING = object()


class CheckFailed(AssertionError):
    """A task is not solved; the message tells the student why."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message alone."""
        return [f"✗ {self}"]


def require(condition: bool, message: str) -> None:
    """Raise `CheckFailed` with a message for the student unless the condition holds.

    >>> require(1 + 1 == 2, "You added wrongly.")
    """
    if not condition:
        raise CheckFailed(message)


def _numbers(value: Any) -> np.ndarray:
    """An array of floats; of a tensor with a history, too."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=float)


def same(got: Any, expected: Any, *, rtol: float = 1e-5, atol: float = 1e-6) -> bool:
    """Whether an answer has the expected shape and numbers, as `numpy.allclose` compares them.

    Args:
        got: a number, nested lists, an array or a tensor; what holds no numbers is not the same.
        expected: as got.   rtol, atol: relative and absolute tolerance.

    >>> same([1, 2], np.array([1.0, 2.0])), same(1.0, [1.0]), same("one", 1.0)
    (True, False, False)
    """
    try:
        got, expected = _numbers(got), _numbers(expected)
    except (TypeError, ValueError):
        return False
    with np.errstate(all="ignore"):
        return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=rtol, atol=atol))


def refuse(
    got: Any, expected: Any, wrongs: Iterable[tuple[Any, str]], *, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Tell a student which known mistake an answer is the result of; a right answer passes, whatever it looks like.

    Args:
        got, expected, rtol, atol: see `same`.   wrongs: results of mistakes, and what to say to each.
    Raises:
        CheckFailed: with the message of the first result that the answer is the same as.

    >>> refuse(4, 4, [(4, "You added; multiply.")])   # 2 · 2 is 2 + 2
    >>> refuse(5, 6, [(5, "You added; multiply.")])
    Traceback (most recent call last):
    lmcore.checking.CheckFailed: You added; multiply.
    """
    if not same(got, expected, rtol=rtol, atol=atol):
        for wrong, message in wrongs:
            require(not same(got, wrong, rtol=rtol, atol=atol), message)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of an exercise, as `Tasks.add` registers it."""

    name: str
    title: str
    points: int
    minutes: int
    run: Callable[[Callable, np.random.Generator], None]

    def __post_init__(self):
        if not self.title:
            raise ValueError(f"task {self.name!r} needs a docstring: its first line is the task's title")
        for field, value in (("points", self.points), ("minutes", self.minutes)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"task {self.name!r}: {field} must be a whole number of at least 1, got {value!r}")


class _Recorded:
    """The student's function as a check calls it: with copies, and with a memory of what it was given and returned."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        self.function = function
        self.args: tuple = ()
        self.first = self.last = _MISSING

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A function that writes into its arguments must not change what the check compares the answer with.
        memo: dict[int, Any] = {}
        self.args = (*args, *kwargs.values())
        result = self.function(*(_copy(a, memo) for a in args), **{k: _copy(v, memo) for k, v in kwargs.items()})
        self.first, self.last = (result if self.first is _MISSING else self.first), result
        return result

    def line_of(self, error: BaseException, check: Callable) -> traceback.FrameSummary | None:
        """The last line of the student's own code that an error passed through."""
        namespace = getattr(inspect.unwrap(self.function), "__globals__", None)
        for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
            if frame.f_globals is namespace and frame.f_code is not check.__code__:
                path, function = frame.f_code.co_filename, frame.f_code.co_name
                return traceback.FrameSummary(path, number, function, line=linecache.getline(path, number))
        return None


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy of an argument; a random generator is shared, or every call would draw the same numbers."""
    if type(value).__name__ == "Generator":
        return value
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # an open file, an iterator, …: there is only the one
        return value


def _short(value: Any) -> str:
    """A value's repr on one line, not too long."""
    try:
        return _cut(" ".join(repr(value).split()), 160)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _cut(text: str, width: int) -> str:
    """A text with its middle left out when it is long."""
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 2 :]}"


class Tasks(dict[str, Task]):
    """The tasks of one exercise, by name and in order; `check` is what the student's notebook calls.

    >>> tasks = Tasks()
    >>> @tasks.add(points=2, minutes=5)
    ... def double(student, rng):
    ...     '''Twice a number.'''
    ...     x = int(rng.integers(3, 100))
    ...     got = student(x)
    ...     require(got != x**2, "You squared the number; double it.")
    ...     require(got == 2 * x, f"Expected {2 * x} for {x}, got {got}.")
    >>> def double(x): return x + x
    >>> tasks.check(double)
    ✓ double: passed (2 points)
    >>> def double(x): return x**2
    >>> tasks.check(double, seed=7)
    Traceback (most recent call last):
    ...
    lmcore.checking.CheckFailed: double: You squared the number; double it. (seed 7: check(double, seed=7) repeats it)
    """

    def add(self, *, points: int, minutes: int) -> Callable[[Callable], Callable]:
        """Register a check under its function's name; the docstring's first line is the task's title.

        The check gets the student's function and a `numpy.random.Generator`. The student's function receives copies of
        its arguments, so that it cannot change the check's own; random generators are passed as they are.

        Raises:
            ValueError: a name that is taken, no docstring, or points or minutes below 1.
        """

        def register(run: Callable) -> Callable:
            name, title = run.__name__, (inspect.getdoc(run) or "").partition("\n")[0]
            if name in self:
                raise ValueError(f"there are two tasks called {name!r}")
            self[name] = Task(name=name, title=title, points=points, minutes=minutes, run=run)
            return run

        return register

    def check(self, student: Callable, *, seed: int | None = None) -> None:
        """Check a student's function, found by its name, and print that it passed.

        Args:
            student: The function itself, under the name that the task gave it.
            seed: Draws the inputs; new ones at every call when it is None.

        Raises:
            CheckFailed: The task is not solved; the message says why and names the seed.
            ValueError: No task has the function's name.
            TypeError: Not a function.
        """
        name = getattr(student, "__name__", None)
        if not callable(student) or name is None:
            raise TypeError(f"check takes the function itself, as in check(perplexity), not {_short(student)}")
        self.run(name, student, seed=seed)
        points = self[name].points
        print(f"✓ {name}: passed ({points} {'point' if points == 1 else 'points'})")

    def run(self, name: str, student: Callable, *, seed: int | None = None) -> None:
        """Run one task's check on a function of any name; silent if it passes. See `check` for what it raises."""
        if name not in self:
            close = difflib.get_close_matches(name, self, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the tasks are {', '.join(self)}"
            raise ValueError(f"no task is called {name!r}: {hint}")
        seed = np.random.SeedSequence().entropy % 1_000_000 if seed is None else seed
        check, recorded = self[name].run, _Recorded(student)
        try:
            # nbgrader takes anything on stderr for a failure, and a mere warning is written there.
            with contextlib.redirect_stderr(sys.stdout):
                check(recorded, np.random.default_rng(seed))
        except (Exception, SystemExit) as error:
            cause = None if isinstance(error, CheckFailed) else error
            why = _explain(error, recorded, check)
            if not why.startswith("not done yet"):
                why += f" (seed {seed}: check({name}, seed={seed}) repeats it)"
            raise CheckFailed(f"{name}: {why}") from cause
        if recorded.first is _MISSING:
            raise RuntimeError(f"the check of {name!r} never called the student's function, so it cannot fail")


def _explain(error: BaseException, student: _Recorded, check: Callable) -> str:
    """Say to a student what went wrong: a stub, an exception, an answer of a wrong kind, or a wrong answer."""
    if any(student.first is stub for stub in _STUB):
        return f"not done yet: your function returns {student.first}. (Is its `return` missing?)"
    if isinstance(error, CheckFailed):
        return _cut(str(error), 1000)
    what = _cut(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 400)
    where = student.line_of(error, check)
    if where is None:
        return f"the check cannot use what your function returned, {_short(student.last)}: {what}."
    if isinstance(error, NotImplementedError):
        return f"not done yet: {where.name} raises NotImplementedError."
    given = ", ".join(_short(a) for a in student.args)
    return f"your function raised {what} in line {where.lineno}, `{where.line}`, when it was given {given}."


def mutant(task: str, *, rejected_with: str) -> Callable[[Callable], Callable]:
    """Mark a function as a plausible wrong answer to a task, with a part of the message that must reject it.

    >>> @mutant("double", rejected_with="You squared")
    ... def squares(x):
    ...     return x**2
    >>> squares.task, squares.rejected_with
    ('double', 'You squared')
    """
    if not rejected_with:
        raise ValueError(f"a mutant of {task!r} needs a part of the message that rejects it")

    def mark(function: Callable) -> Callable:
        function.task, function.rejected_with = task, rejected_with
        return function

    return mark


def mutants_of(module: ModuleType) -> list[Callable]:
    """The functions of a loaded `mutants.py` that `mutant` has marked, in their order."""
    return [value for value in vars(module).values() if hasattr(value, "rejected_with")]


def load(path: str | Path) -> ModuleType:
    """Execute an exercise's `checks.py` or `mutants.py` afresh, under a name that no other exercise's file has.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(f"_exercise_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module
