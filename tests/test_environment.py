"""One place for versions, and every way to install leads to it."""

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
SITE = sysconfig.get_paths()["purelib"]  # not what setuptools carries with it
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    """A project's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Project → version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(re.match(r"([\w.-]+)==(\S+)$", line).groups() for line in lines if line and not line.startswith("#"))


PINS = {normal(name): version for name, version in pins().items()}
DIRECT = sorted(
    normal(re.match(r"[\w.-]+", requirement)[0])
    for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in group
    if not requirement.startswith("lmcore[")
)


def test_torch_is_the_pin():
    assert PINS["torch"] == "2.13.0"


@pytest.mark.parametrize("name", DIRECT)
def test_every_dependency_is_pinned_and_installed_as_pinned(name):
    assert name in PINS, f"{name} of pyproject.toml has no line in constraints.txt"
    installed = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is 2.13.0
    assert installed == PINS[name]


def test_the_whole_environment_is_as_pinned():
    installed = {
        normal(d.metadata["Name"]): d.version.split("+")[0] for d in importlib.metadata.distributions(path=[SITE])
    }
    different = {
        name: (installed[name], PINS[name]) for name in installed.keys() & PINS.keys() if installed[name] != PINS[name]
    }
    assert not different, f"installed and pinned versions: {different}; run: make"


def test_the_oldest_python_that_is_promised_can_install_every_pin():
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    wanted = {d.metadata["Name"]: d.metadata["Requires-Python"] for d in importlib.metadata.distributions(path=[SITE])}
    newer = {name: python for name, python in wanted.items() if python and oldest not in SpecifierSet(python)}
    assert not newer, f"pins that need a newer Python than {oldest}: {newer}"


def test_all_means_all_groups():
    groups = PROJECT["optional-dependencies"]
    assert set(groups["all"][0].removeprefix("lmcore[").removesuffix("]").split(",")) == set(groups) - {"all"}


def conda() -> tuple[dict, list[str]]:
    """environment.yml, and the lines of its pip section."""
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    return content, next(d["pip"] for d in content["dependencies"] if isinstance(d, dict))


def test_environment_yml_says_what_pyproject_says():
    content, pip = conda()
    assert set(content) == {"name", "channels", "dependencies"}
    plain = [d for d in content["dependencies"] if isinstance(d, str)]
    assert plain == [f"python{PROJECT['requires-python']}", "pip"]
    assert content["name"] == PROJECT["name"]
    assert pip == ["--constraint constraints.txt", "--editable .[all]"]


@pytest.mark.timeout(1500)
@pytest.mark.skipif(not os.environ.get("CI"), reason="installs two gigabytes; run with CI=true")
def test_environment_yml_installs(tmp_path):
    """Does with environment.yml what conda does after it has brought Python and pip."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True, timeout=300)
    python = next(p for p in [tmp_path / "env/bin/python", tmp_path / "env/Scripts/python.exe"] if p.exists())
    requirements = ROOT / "condaenv.test.requirements.txt"  # conda, too, writes such a file beside environment.yml
    try:
        requirements.write_text("\n".join(conda()[1]) + "\n", encoding="utf-8")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True, cwd=ROOT, timeout=1400)
    finally:
        requirements.unlink()
    subprocess.run([python, "-m", "pip", "check"], check=True, timeout=300)
    subprocess.run(
        [python, "-c", "import lmcore, torch, nbval, nbgrader, jupyter_book, jupyterlab"], check=True, timeout=300
    )


@pytest.mark.parametrize("target", "book serve test lab chapters exercises assignment grade bench lint clean".split())
def test_makefile_has_the_targets_of_the_readme(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.M)
    assert f"make {target}" in (ROOT / "README.md").read_text(encoding="utf-8")
