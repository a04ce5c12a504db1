"""The website's files, read without a browser: which pages there are, links, descriptions, launch links, strictness."""

import html.parser
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://github.com/someone/some-book"


class Page(html.parser.HTMLParser):
    """What a test wants to know about a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.tags = path, set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]

    def meta(self, name: str) -> str:
        found = [a["content"] for tag, a in self.tags if tag == "meta" and name in {a.get("name"), a.get("property")}]
        assert len(found) == 1, f"{self.path.name} has {len(found)} of {name}"
        return found[0]


def built_pages(site: Path) -> dict[str, Page]:
    """Every page of the site; _static holds none."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts]
    return {path.relative_to(site).as_posix(): Page(path) for path in paths}


@pytest.fixture(scope="module")
def built(site):
    return built_pages(site)


@pytest.fixture
def small_book(tmp_path):
    """A copy of book/ with one chapter, to build with other settings."""
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("_build", "__pycache__"))
    (tmp_path / "chapters").mkdir()
    shutil.copy(ROOT / "chapters" / "citations.py", tmp_path / "chapters")
    toc_path = tmp_path / "book" / "_toc.yml"
    toc = yaml.safe_load(toc_path.read_text(encoding="utf-8"))
    chapter = {
        "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A chapter\n\nSome words."}],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "lmbook": {"minutes": 7, "run": {"seconds": 3, "peak_megabytes": 11}},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (tmp_path / "chapters" / "05_words.ipynb").write_text(json.dumps(chapter), encoding="utf-8")
    toc["parts"] = [{"caption": "Part", "chapters": [{"file": "chapters/05_words"}]}]
    toc_path.write_text(yaml.safe_dump(toc), encoding="utf-8")
    landing = "---\ndescription: A small book.\n---\n# Small\n\n```{chapters}\n```\n"
    (tmp_path / "book" / "index.md").write_text(landing, encoding="utf-8")
    return tmp_path


def set_address(root: Path, address: str, hub: str = "") -> None:
    """Fill the setting for the repository's address, and that for a hub."""
    path = root / "book" / "_config.yml"
    text = path.read_text(encoding="utf-8")
    text, n_address = re.subn(r'^  url: ""', f'  url: "{address}"', text, flags=re.MULTILINE)
    text, n_hub = re.subn(r'^  jupyterhub_url: ""', f'  jupyterhub_url: "{hub}"', text, flags=re.MULTILINE)
    assert (n_address, n_hub) == (1, 1)
    path.write_text(text, encoding="utf-8")


def load(path: str):
    """Import a file of the repository: book/ and tests/ are no packages."""
    specification = importlib.util.spec_from_file_location(f"lmbook_{Path(path).stem}_of_files", ROOT / path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def build(root: Path) -> Path:
    """Build a copy with the book's own builder."""
    return load("book/build.py").build(root)


# --- The pages -------------------------------------------------------------------------------------------------------


def test_pages_are_those_of_the_table_of_contents(built):
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    wanted = {f"{toc['root']}.html", "index.html", "search.html"}
    wanted |= {f"{entry['file']}.html" for part in toc["parts"] for entry in part["chapters"]}
    assert set(built) == wanted


def test_every_notebook_among_the_chapters_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    listed = {entry["file"] for part in toc["parts"] for entry in part["chapters"]}
    written = {f"chapters/{path.stem}" for path in (ROOT / "chapters").glob("*.ipynb")}
    assert written == {file for file in listed if file.startswith("chapters/")}


def test_internal_links_lead_somewhere(built, site):
    broken = []
    for name, page in built.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                broken.append(f"{name}: {link}")
            elif parts.fragment and target.suffix == ".html":
                other = built[target.relative_to(site.resolve()).as_posix()]
                if parts.fragment not in other.ids:
                    broken.append(f"{name}: {link} (no such place)")
    assert broken == []


def test_nothing_is_loaded_from_another_host(built):
    loaded = [
        f"{name}: <{tag}> {address}"
        for name, page in built.items()
        for tag, attributes in page.tags
        for address in [attributes.get("src") or (tag == "link" and attributes.get("href")) or ""]
        if urlsplit(address).netloc and attributes.get("rel") != "canonical"
    ]
    assert loaded == []


def test_every_page_has_title_language_and_its_own_description(built):
    descriptions = {}
    for name, page in built.items():
        assert ("html", "en") in [(tag, attributes.get("lang")) for tag, attributes in page.tags]
        assert re.search(r"<title>\s*\S", page.path.read_text(encoding="utf-8")), name
        descriptions[name] = page.meta("description")
        assert 20 < len(descriptions[name]) <= 210
    assert len(set(descriptions.values())) == len(descriptions)


def test_images_have_a_text_instead(built):
    for name, page in built.items():
        for tag, attributes in page.tags:
            if tag == "img":
                assert attributes.get("alt", "").strip() or attributes.get("role") == "presentation", (name, attributes)


def test_figures_are_joined_with_their_captions(site, chapter):
    page = (site / f"{chapter}.html").read_text(encoding="utf-8")
    notebook = json.loads((ROOT / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    texts = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    captions = [
        label for text in texts for label in re.findall(r"^\*\*Figure ([0-9A-Z]+\.\d+)\.?\*\*", text, re.MULTILINE)
    ]
    assert captions == sorted(set(captions), key=lambda label: int(label.split(".")[1]))
    figures = re.findall(r'<figure[^>]*id="figure-([^"]+)">(.*?)</figure>', page, re.DOTALL)
    assert [label.replace("-", ".").upper() for label, _ in figures] == captions
    assert all(body.count("<img") == 1 and body.count("<figcaption>") == 1 for _, body in figures)


def test_chapter_shows_what_the_stored_run_took(site, chapter):
    page = (site / f"{chapter}.html").read_text(encoding="utf-8")
    facts = json.loads((ROOT / f"{chapter}.ipynb").read_text(encoding="utf-8"))["metadata"]["lmbook"]
    run = facts["run"]
    line = re.search(r'<p class="lm-facts">(.*?)</p>', page, re.DOTALL)[1]
    assert f"Reading time {facts['minutes']} min" in line
    assert f"executed in {run['seconds']} s with at most {run['peak_megabytes']} MB" in line
    landing = (site / "book" / "index.html").read_text(encoding="utf-8")
    assert f"{run['seconds']} s, {run['peak_megabytes']} MB" in landing.replace("\u00a0", " ")


def works_in(page: Path, section: str) -> list[str]:
    """The items of the list in a section, without marks and without the letters after years."""
    body = re.search(rf'<section [^>]*id="{section}">(.*?)</section>', page.read_text(encoding="utf-8"), re.DOTALL)[1]
    items = re.findall(r"<li>(.*?)</li>", body, re.DOTALL)
    return [re.sub(r"\((\d+)[a-z]\)", r"(\1)", " ".join(re.sub(r"<[^>]+>", "", item).split())) for item in items]


def test_works_are_listed_in_every_chapter_that_cites_them_and_on_their_own_page(site, chapter):
    cited = load("chapters/citations.py").cited
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "chapters" / "text").glob("*.md")}
    here = works_in(site / f"{chapter}.html", "references")
    assert len(here) == len(cited(texts[chapter.split("/")[1]])) > 0
    everywhere = works_in(site / "book" / "bibliography.html", "bibliography")
    assert len(everywhere) == len(set().union(*map(cited, texts.values())))
    assert set(here) <= set(everywhere)


# --- Settings, warnings, serving -------------------------------------------------------------------------------------


def test_no_page_links_to_a_repository_while_its_address_is_empty(built):
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text(encoding="utf-8"))
    if config["repository"]["url"]:
        pytest.skip("the repository's address is set in book/_config.yml")
    hosts = {urlsplit(link).netloc for page in built.values() for link in page.links}
    assert not hosts & {"colab.research.google.com", "mybinder.org", "github.com"}


def test_one_setting_brings_the_links_to_repository_colab_binder_and_hub(small_book):
    set_address(small_book, ADDRESS, hub="https://hub.example.org")
    links = Page(build(small_book) / "chapters" / "05_words.html").links
    notebook = "chapters/05_words.ipynb"
    assert f"https://colab.research.google.com/github/someone/some-book/blob/main/{notebook}" in links
    assert f"https://mybinder.org/v2/gh/someone/some-book/main?urlpath=lab/tree/{notebook}" in links
    assert ADDRESS in links
    hub = next(link for link in links if link.startswith("https://hub.example.org/hub/user-redirect/git-pull?"))
    assert f"urlpath=lab/tree/some-book/{notebook}" in hub
    assert "branch=main" in hub


def test_a_warning_is_an_error_each_time_and_a_mended_book_builds(small_book):
    landing = small_book / "book" / "index.md"
    good = landing.read_text(encoding="utf-8")
    landing.write_text(good + "\n{doc}`no_such_page`\n", encoding="utf-8")
    for _ in range(2):  # Sphinx alone would warn only once, and then call the site built
        with pytest.raises(RuntimeError, match="no_such_page"):
            build(small_book)
    landing.write_text(good, encoding="utf-8")
    page = (build(small_book) / "book" / "index.html").read_text(encoding="utf-8")
    assert "5. A chapter" in page
    assert "7 min" in page


def test_a_caption_without_its_figure_is_an_error(small_book):
    path = small_book / "chapters" / "05_words.ipynb"
    chapter = json.loads(path.read_text(encoding="utf-8"))
    chapter["cells"][0]["source"] += "\n\n**Figure 5.1.** A picture that is not there."
    path.write_text(json.dumps(chapter), encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"Figure 5\.1: no cell with an image"):
        build(small_book)


def serve(folder: Path, port: int) -> subprocess.CompletedProcess:
    """Try to serve a folder, in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, 'book'); import pathlib, serve;"
        "sys.exit(serve.serve(pathlib.Path(sys.argv[1]), port=int(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(folder), str(port)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_serving_on_a_taken_port_says_so(tmp_path):
    (tmp_path / "index.html").write_text("a page", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = serve(tmp_path, port)
    assert run.returncode == 1
    assert f"Port {port} is taken" in run.stderr


def test_serving_before_building_says_how_to_build(tmp_path):
    run = serve(tmp_path, 0)
    assert run.returncode == 1
    assert "python book/build.py" in run.stderr


def test_the_site_is_served_to_this_computer_only(tmp_path):
    server = load("book/serve.py").server(tmp_path, 0)
    try:
        assert server.server_address[0] == "127.0.0.1"
    finally:
        server.server_close()


def test_a_change_of_the_style_reaches_a_site_that_is_built(small_book):
    site = build(small_book)
    style = small_book / "book" / "_static" / "lmbook.css"
    style.write_text("body { color: black; }", encoding="utf-8")
    build(small_book)
    assert (site / "_static" / "lmbook.css").read_text(encoding="utf-8") == "body { color: black; }"


# --- The browser -----------------------------------------------------------------------------------------------------


def test_a_browser_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("LMBOOK_BROWSER", "/no/such/browser")
    with pytest.raises(ValueError, match=r"LMBOOK_BROWSER.*'/no/such/browser'"):
        load("tests/browser.py").find()


def test_the_chosen_browser_comes_first(monkeypatch, tmp_path):
    chosen = tmp_path / "chromium"
    chosen.touch()
    monkeypatch.setenv("LMBOOK_BROWSER", str(chosen))
    assert load("tests/browser.py").find() == str(chosen)


def test_without_any_browser_one_is_told_what_to_install(monkeypatch, capsys):
    browser = load("tests/browser.py")
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(browser.subprocess, "run", lambda *command, **options: None)
    assert browser.main() == 1
    assert "playwright install chromium" in capsys.readouterr().err
