"""The harness of the exercises: what passes, what fails, and above all what the student is told."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.checking import CheckFailed, Tasks, load, mutant, mutants_of, refuse, require, same


@pytest.fixture
def tasks():
    tasks = Tasks()

    @tasks.add(points=1, minutes=5)
    def total(student, rng):
        """The sum of an array."""
        x = rng.integers(1, 100, size=5)
        got = student(x)
        require(got != x.prod(), "You multiplied; add instead.")
        require(got == x.sum(), f"Expected {x.sum()} for {x.tolist()}, got {got}.")

    @tasks.add(points=3, minutes=20)
    def sample(student, rng):
        """A draw."""
        require(len({student(rng) for _ in range(50)}) > 1, "You return the same number each time.")

    return tasks


def failure(tasks, function, seed=7, name="total"):
    with pytest.raises(CheckFailed) as caught:
        tasks.run(name, function, seed=seed)
    return str(caught.value)


# -- passing --------------------------------------------------------------------------------------------------------


def test_a_right_answer_is_told_its_points(tasks, capsys):
    def total(x):
        return sum(x)

    assert tasks.check(total) is None  # nbgrader would take a number for a partial grade
    assert capsys.readouterr().out == "✓ total: passed (1 point)\n"


def test_a_task_has_what_the_author_gave_it(tasks):
    assert list(tasks) == ["total", "sample"]
    task = tasks["sample"]
    assert (task.name, task.title, task.points, task.minutes) == ("sample", "A draw.", 3, 20)


@given(seed=st.integers(0, 2**63))
def test_a_seed_repeats_the_inputs(seed):
    seen, tasks = [], Tasks()

    @tasks.add(points=1, minutes=1)
    def task(student, rng):
        """Look."""
        seen.append(student(rng.random()))

    tasks.run("task", lambda x: x, seed=seed)
    tasks.run("task", lambda x: x, seed=seed)
    assert seen[0] == seen[1]


def test_without_a_seed_the_inputs_are_new_even_if_the_student_seeds(tasks):
    messages = set()
    for _ in range(5):
        np.random.seed(0)  # noqa: NPY002 — what a student may do
        messages.add(failure(tasks, lambda x: 0, seed=None))
    assert len(messages) > 1


def test_a_generator_is_shared_so_that_each_draw_is_new(tasks):
    tasks.run("sample", lambda rng: rng.random(), seed=1)


# -- failing --------------------------------------------------------------------------------------------------------


def test_a_misconception_is_named_with_the_way_to_repeat_it(tasks):
    message = failure(tasks, np.prod)
    assert message == "total: You multiplied; add instead. (seed 7: check(total, seed=7) repeats it)"


def test_a_function_cannot_change_what_the_check_compares_with(tasks):
    def zeroes_its_input(x):
        x[:] = 0
        return 0

    assert "Expected" in failure(tasks, zeroes_its_input)

    nested = Tasks()

    @nested.add(points=1, minutes=1)
    def task(student, rng):
        """Nested input."""
        rows = {"a": [1, [2]]}
        student(rows, key=rows)
        require(rows == {"a": [1, [2]]}, "changed")

    def spoils(rows, key):
        assert rows is key  # one object stays one object
        rows["a"][1].append(3)

    nested.run("task", spoils)


def test_what_cannot_be_copied_is_passed_as_it_is():
    tasks = Tasks()

    @tasks.add(points=1, minutes=1)
    def task(student, rng):
        """An iterator."""
        require(student(n for n in (1, 2)) == 3, "no")

    tasks.run("task", sum)


def test_a_students_exception_is_told_with_its_line(tasks):
    def helper(x):
        return x["key"]  # a mistake

    def total(x):
        return helper({})

    message = failure(tasks, total)
    assert "your function raised KeyError: 'key' in line" in message
    assert '`return x["key"]  # a mistake`' in message
    assert "given array([" in message


@pytest.mark.parametrize(
    "error", [SystemExit(3), SystemExit(), RecursionError("deep"), AssertionError(), MemoryError()]
)
def test_whatever_a_student_raises_is_a_failed_check(tasks, error):
    def total(x):
        raise error

    assert f"your function raised {type(error).__name__}" in failure(tasks, total)


def test_the_stop_button_stops(tasks):
    def total(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tasks.run("total", total)


def raises_not_implemented(x):
    raise NotImplementedError  # your code here


@pytest.mark.parametrize("stub", [raises_not_implemented, lambda x: None, lambda x: ...])
def test_a_stub_is_not_done_yet(tasks, stub):
    message = failure(tasks, stub)
    assert message.startswith("total: not done yet")
    assert "seed" not in message


def test_a_stub_that_another_task_calls_is_named(tasks):
    assert "raises_not_implemented raises NotImplementedError" in failure(tasks, lambda x: raises_not_implemented(x))


def test_an_answer_of_a_wrong_kind_is_shown(tasks):
    message = failure(tasks, lambda x: np.zeros(3))
    assert "the check cannot use what your function returned, array([0., 0., 0.]): ValueError" in message


def test_a_long_answer_is_cut(tasks):
    message = failure(tasks, lambda x: np.arange(999.0))
    assert "returned, array([ 0., 1., 2., " in message
    assert " … " in message
    assert len(failure(tasks, lambda x: "long" * 9999)) < 1200  # the check itself puts the answer into its message


def test_stderr_becomes_stdout_since_nbgrader_fails_a_cell_that_writes_there(tasks, capsys):
    def total(x):
        print("a warning", file=sys.stderr)
        return sum(x)

    tasks.check(total)
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == ("a warning", "")


def test_a_notebook_shows_the_message_without_a_traceback():
    assert CheckFailed("Why.")._render_traceback_() == ["✗ Why."]


# -- errors of use --------------------------------------------------------------------------------------------------


def test_an_unknown_name_gets_the_closest(tasks):
    def totals(x): ...

    with pytest.raises(ValueError, match=r"no task is called 'totals': did you mean 'total'\?"):
        tasks.check(totals)
    with pytest.raises(ValueError, match="the tasks are total, sample"):
        tasks.check(print)


class Unprintable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize("what", [3, None, np.ones(2), Unprintable()])
def test_check_takes_a_function(tasks, what):
    with pytest.raises(TypeError, match="takes the function itself"):
        tasks.check(what)


def test_a_task_must_be_well_formed():
    def task(student, rng):
        """Title."""

    tasks = Tasks()
    for points in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match=f"points must be a whole number of at least 1, got {points!r}"):
            tasks.add(points=points, minutes=1)(task)
    with pytest.raises(ValueError, match="needs a docstring"):
        tasks.add(points=1, minutes=1)(lambda student, rng: None)
    tasks.add(points=1, minutes=1)(task)
    with pytest.raises(ValueError, match="two tasks called 'task'"):
        tasks.add(points=1, minutes=1)(task)
    with pytest.raises(RuntimeError, match="never called"):
        tasks.run("task", len)


# -- files ----------------------------------------------------------------------------------------------------------


TENSOR = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)


@pytest.mark.parametrize("got", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), ((1.0, 2.0), (3.0, 4.0000001)), TENSOR])
def test_the_same_numbers_are_the_same_in_any_dress(got):
    assert same(got, np.array([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    "got", [None, "1234", [1, 2, 3, 4], [[1, 2], [3]], [[1, 2], [3, 5]], [[1, 3], [2, 4]], [[1, 2], [3, np.nan]]]
)
def test_other_numbers_another_shape_and_no_numbers_are_not_the_same(got):
    assert not same(got, np.array([[1.0, 2.0], [3.0, 4.0]]))


def test_tolerances_are_numpys():
    assert same(1.009, 1, rtol=0.01, atol=0)
    assert not same(1.011, 1, rtol=0.01, atol=0)
    assert same(0.009, 0, rtol=0, atol=0.01)
    assert not same(0.011, 0, rtol=0, atol=0.01)


def test_a_known_mistake_is_named_but_never_in_a_right_answer():
    wrongs = [(7, "seven"), (5, "five"), (5, "five again")]
    refuse(3, 3, wrongs)
    refuse(4, 3, wrongs)  # wrong, but not in a way that is known
    refuse(5, 5, wrongs)
    with pytest.raises(CheckFailed, match=r"^five$"):
        refuse([5], [3], [([7], "seven"), ([5], "five")])


def test_files_of_one_name_live_side_by_side(tmp_path):
    for name in ("01_a", "02_b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checks.py").write_text(
            f"from dataclasses import dataclass\nWHO = {name!r}\n@dataclass\nclass C: ...\n"
        )
    first, second = (load(tmp_path / name / "checks.py") for name in ("01_a", "02_b"))
    assert (first.WHO, second.WHO) == ("01_a", "02_b")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*mutants\.py"):
        load(tmp_path / "01_a" / "mutants.py")


def test_mutants_are_found_in_order(tmp_path):
    path = tmp_path / "mutants.py"
    path.write_text(
        "from lmcore.checking import mutant\n"
        "@mutant('b', rejected_with='x')\ndef second(): ...\n"
        "def helper(): ...\n"
        "@mutant('a', rejected_with='y')\ndef first(): ...\n"
    )
    found = mutants_of(load(path))
    assert [(m.__name__, m.task, m.rejected_with) for m in found] == [("second", "b", "x"), ("first", "a", "y")]
    with pytest.raises(ValueError, match="needs a part of the message"):
        mutant("a", rejected_with="")
