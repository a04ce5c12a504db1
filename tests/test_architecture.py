"""Imports go one way only, and importing the package costs next to nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lmcore"
# Who may import whom inside lmcore. A part not listed here is a decision that nobody has taken yet.
ARROWS = {
    "__init__": set(),
    "checking": set(),
    "classical": {"optional", "sizes", "text"},
    "compress": {"floats", "models", "nn", "optional", "sizes", "train"},
    "data": {"optional", "sizes", "text"},
    "decode": {"nn", "optional", "sizes"},
    "floats": {"optional", "sizes"},
    "metrics": set(),
    "models": {"nn", "optional", "sizes"},
    "nn": {"optional", "sizes"},
    "optional": set(),
    "parallel": {"models", "nn", "optional", "sizes", "train"},
    "plot": set(),
    "sizes": set(),
    "text": {"optional", "sizes"},
    "train": {"floats", "optional", "sizes"},
}
NUMPY_ONLY = {"metrics"}
OUTSIDE = {"book", "chapters", "exercises", "tests"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, absolute names."""
    package = ("lmcore", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def parts_of(modules: set[str]) -> set[str]:
    """Which parts of lmcore the modules belong to."""
    return {name.split(".")[1] for name in modules if name.startswith("lmcore.")}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path):
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert part in ARROWS, f"lmcore/{part} is new: say in ARROWS what it may import"
    others = {
        other for other in parts_of(imports(path)) if (PACKAGE / other).exists() or (PACKAGE / f"{other}.py").exists()
    }
    wrong = others - ARROWS[part] - {part}
    assert not wrong, f"{path.relative_to(PACKAGE)} imports lmcore.{', lmcore.'.join(sorted(wrong))}: an arrow upwards"
    assert not {name.split(".")[0] for name in imports(path)} & OUTSIDE, f"{path.name} imports from outside the package"
    if part in NUMPY_ONLY:
        third_party = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"lmcore"}
        assert third_party <= {"numpy"}


def test_the_arrows_test_sees_an_arrow_upwards(tmp_path):
    assert parts_of({"lmcore.classical.ngram", "numpy"}) == {"classical"}
    bad = PACKAGE / "text" / "words.py"
    assert "lmcore.text.tokenizer" in imports(bad)


@pytest.mark.parametrize("module", ["lmcore", "lmcore.data"])
def test_import_is_light(module):
    heavy = "numpy torch scipy matplotlib platformdirs filelock tqdm".split()
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_import_costs_no_more_than_a_few_standard_modules():
    code = "import sys; before = set(sys.modules); import json, pathlib; middle = set(sys.modules); import lmcore; {}"
    count = "print(len(set(sys.modules) - middle), len(middle - before))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(count)], capture_output=True, text=True, check=True, timeout=60
    )
    ours, theirs = map(int, done.stdout.split())
    assert ours <= 1 <= theirs  # lmcore itself and nothing else


def test_readme_is_the_truth_about_files():
    for name in ["CONTRIBUTING.md", "LICENSE", "CITATION.cff", "environment.yml", "constraints.txt", ".ci/run"]:
        assert (PACKAGE.parent / name).exists()


def test_no_file_is_too_long_to_read():
    for path in FILES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 320, f"{path.relative_to(PACKAGE)} has {lines} lines: is it one concept?"


def test_functions_fit_on_a_screen():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.lineno + 1
                docstring = ast.get_docstring(node, clean=False) or ""
                assert body - docstring.count("\n") <= 42, f"{path.relative_to(PACKAGE)}: {node.name} is too long"
