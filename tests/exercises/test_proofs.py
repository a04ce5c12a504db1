"""The proofs for every exercise: what is right passes, what is not done or wrong fails, and with the right message."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from lmcore.checking import CheckFailed, load

ROOT = Path(__file__).resolve().parents[2]
build = load(ROOT / "exercises" / "build.py")
FOLDERS = sorted(path for path in (ROOT / "exercises").glob("[0-9]*_*") if path.is_dir())
SEEDS = range(20)


def test_there_are_exercises():
    assert FOLDERS, "no folder exercises/NN_slug"


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name, scope="module")
def exercise(request):
    return build.read(request.param)


def errors_of(nb, folder):
    """Run a notebook from top to bottom whatever happens; the first error of each cell that has one."""
    NotebookClient(nb, timeout=300, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    errors = {}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                errors.setdefault(cell.metadata.nbgrader.grade_id, f"{output.ename}: {output.evalue}")
    return errors


def test_the_solutions_pass_from_top_to_bottom_and_under_every_seed(exercise):
    nb = build.notebook(exercise, solutions=True)
    seeds = f"for seed in {SEEDS}:\n    for name in tasks:\n        tasks.run(name, globals()[name], seed=seed)"
    nb.cells.append(
        nbformat.v4.new_code_cell("from checks import tasks\n" + seeds, metadata={"nbgrader": {"grade_id": "seeds"}})
    )
    assert errors_of(nb, exercise.folder) == {}


def test_the_untouched_notebook_fails_every_task(exercise):
    errors = errors_of(nbformat.read(exercise.path, as_version=4), exercise.folder)
    assert errors.keys() == {f"check-{name}" for name in exercise.tasks}
    for name in exercise.tasks:
        assert errors[f"check-{name}"].startswith(f"CheckFailed: {name}: not done yet")


def verdict(exercise, mutant, seed):
    """What the check of its task says of a mutant."""
    try:
        exercise.tasks.run(mutant.task, mutant, seed=seed)
    except CheckFailed as failed:
        return str(failed)
    return "passed"


def test_every_mutant_is_rejected_with_its_message(exercise):
    for mutant in exercise.mutants:
        for seed in SEEDS:
            message = verdict(exercise, mutant, seed)
            assert mutant.rejected_with in message, f"{mutant.__name__} of {mutant.task}, seed {seed}: {message}"


def test_the_mutants_of_a_task_have_messages_of_their_own(exercise):
    for name in exercise.tasks:
        parts = [mutant.rejected_with for mutant in exercise.mutants if mutant.task == name]
        assert len(set(parts)) > 1, f"all mutants of {name} are rejected with {parts[0]!r}"


def test_the_notebook_is_what_its_source_gives(exercise):
    assert build.is_current(exercise), f"run python exercises/build.py {exercise.name}"
