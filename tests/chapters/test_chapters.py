"""What a reader may expect of every chapter; that its outputs are right, pytest --nbval checks."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from lmcore.checking import load

ROOT = Path(__file__).resolve().parent.parent.parent
build = load(ROOT / "chapters" / "build.py")

TEXTS = build.texts()
SECTIONS = ["Check yourself", "Exercises", "Summary", "References"]


@pytest.fixture(params=TEXTS, ids=lambda text: text.stem)
def text(request):
    return request.param


@pytest.fixture
def notebook(text):
    return nbformat.read(build.notebook_path(text), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_text_and_notebook_agree(text):
    assert build.differences(text) == []


def test_every_notebook_has_a_text():
    assert {path.stem for path in (ROOT / "chapters").glob("*.ipynb")} == {text.stem for text in TEXTS}


def test_parts_in_order(notebook):
    headings = re.findall(r"^## (.+)$", prose(notebook), re.M)
    assert headings[-len(SECTIONS) :] == SECTIONS
    assert re.search(r"you will be able to", prose(notebook))
    assert re.search(r"prerequisites?\b", prose(notebook), re.I)
    assert re.search(r"^:::\{admonition\} Common error: ", prose(notebook), re.M)
    questions = prose(notebook).split("## Check yourself")[1].split("## Exercises")[0]
    assert questions.count(":::{dropdown} Answer") >= 3


def test_symbols_are_in_a_table(notebook):
    assert re.search(r"^\|.*symbol.*\|", prose(notebook), re.M)


def test_cells_can_be_read(notebook):
    lines = [[ln for ln in cell.source.splitlines() if ln.strip()] for cell in code_cells(notebook)]
    assert max(map(len, lines)) <= 30
    assert 18 <= len(lines) <= 42
    assert max(len(line) for cell in lines for line in cell) <= 112


def test_claims_are_asserted(notebook):
    assert sum(len(re.findall(r"^\s*assert ", cell.source, re.M)) for cell in code_cells(notebook)) >= 5


def test_ignored_outputs_are_followed_by_an_assertion(notebook):
    cells = code_cells(notebook)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            assert "assert" in (following or cell).source, cell.source


def test_figures_have_captions_and_alt_text(notebook):
    figures = 0
    for index, cell in enumerate(notebook.cells):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            figures += 1
            assert cell.source.rstrip().endswith("plt.show()"), cell.source
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 40, f"no alt text that says what is to be seen: {cell.source}"
            caption = notebook.cells[index + 1]
            assert caption.cell_type == "markdown"
            assert re.match(r"\*\*Figure \d+\.\d+\.\*\* \S", caption.source), caption.source[:80]
    assert 2 <= figures <= 5
    numbers = re.findall(r"^\*\*Figure (\d+)\.(\d+)\.\*\*", prose(notebook), re.M)
    assert [int(n) for _, n in numbers] == list(range(1, figures + 1))


def test_data_is_declared(notebook):
    calls = r"data\.(?:load|open_member|member_path)\(\"([\w-]+)\""
    loaded = set(re.findall(calls, "\n".join(cell.source for cell in code_cells(notebook))))
    assert loaded == set(notebook.metadata.lmbook.data)


def test_no_output_names_a_place_on_the_authors_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            shown = "\n".join([*output.get("traceback", []), str(output.get("text", ""))])
            assert not re.search(r"\.py\b.{0,20}:\d|(?<![\w.])/(home|root|Users|tmp|work)/", shown), (
                f"a traceback or a path is stored; an error's cell begins with %xmode Minimal: {cell.source}"
            )


def test_run_is_recorded_and_short(notebook):
    assert notebook.metadata.lmbook.minutes > 0
    assert notebook.metadata.lmbook.run.seconds <= 60
    assert notebook.metadata.lmbook.run.peak_megabytes < 4000


def test_works_are_cited_and_written_out(text, notebook):
    assert build.citations.cited(text.read_text(encoding="utf-8"))
    assert not re.search(r"\{(cite|bibliography)\b", "\n".join(cell.source for cell in notebook.cells))


def test_what_is_cited_is_in_the_bibliography_and_what_is_there_is_cited():
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = set(re.findall(r"^@\w+\{([^,\s]+),", bibliography, re.M))
    cited = {text.stem: build.citations.cited(text.read_text(encoding="utf-8")) for text in TEXTS}
    assert {name: keys - entries for name, keys in cited.items() if keys - entries} == {}
    assert entries - set().union(*cited.values()) == set()


def test_chapter_is_in_the_table_of_contents_and_has_exercises(text):
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    assert f"chapters/{text.stem}" in [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert (ROOT / "exercises" / text.stem / "solution.md").exists()


def test_no_chapter_imports_another_or_repeats_the_package(notebook):
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert not re.search(r"^\s*(from|import) (chapters|\d\d_)", source, re.M)
    classes = set(re.findall(r"^class (\w+)", source, re.M))
    package = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "lmcore").rglob("*.py"))
    assert not classes & set(re.findall(r"^class (\w+)", package, re.M))


class TestTheBuilderItself:
    """The comparison of text and notebook must be able to fail."""

    SOURCE = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Title

```{code-cell} ipython3
print(1)
```
"""

    @pytest.fixture
    def chapter(self, tmp_path, monkeypatch):
        (tmp_path / "text").mkdir()
        monkeypatch.setattr(build, "CHAPTERS", tmp_path)
        path = tmp_path / "text" / "01_x.md"
        path.write_text(self.SOURCE, encoding="utf-8")
        return path

    def test_executes_compares_and_keeps_the_notebook_when_a_cell_fails(self, chapter):
        assert build.differences(chapter) == ["01_x.ipynb does not exist"]
        assert build.main([]) == 0
        assert build.differences(chapter) == []
        before = build.notebook_path(chapter).read_bytes()
        chapter.write_text(self.SOURCE.replace("print(1)", "1/0"), encoding="utf-8")
        assert build.main([]) == 1
        assert build.notebook_path(chapter).read_bytes() == before
        (found,) = build.differences(chapter)
        assert "1/0" in found
        assert build.main(["--check"]) == 1

    def test_missing_outputs_and_stored_errors_are_differences(self, chapter):
        notebook = build.read_text(chapter)
        build.write(notebook, build.notebook_path(chapter))
        assert build.differences(chapter) == ["01_x.ipynb has no stored outputs"]
        notebook.cells[-1].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
        build.write(notebook, build.notebook_path(chapter))
        assert "stores an error" in build.differences(chapter)[0]

    def test_citations_are_compared_as_they_are_written_out(self, chapter):
        source = self.SOURCE + "\nBy {cite:t}`shannon1948mathematical`.\n\n:::{bibliography}\n:::\n"
        chapter.write_text(source, encoding="utf-8")
        assert build.main([]) == 0
        assert build.differences(chapter) == []
        notebook = nbformat.read(build.notebook_path(chapter), as_version=4)
        assert notebook.cells[-1].source.startswith("By Shannon (1948).\n\n- Shannon, C. E. (1948). A Mathematical")
        chapter.write_text(source.replace("cite:t", "cite:p"), encoding="utf-8")
        (found,) = build.differences(chapter)
        assert "By (Shannon, 1948)." in found

    def test_unknown_chapter(self, chapter):
        with pytest.raises(SystemExit, match=r"No chapter matches zebra. There are: 01_x."):
            build.texts(["zebra"])
