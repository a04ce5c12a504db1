# Every target is a thin wrapper: what it runs can be typed by hand, in any environment that has what
# `python -m pip install -c constraints.txt -e ".[all]"` installs (Windows, conda: see the README).

PYTHON ?= python3
VENV ?= .venv
BIN := $(if $(filter Windows_NT,$(OS)),$(VENV)/Scripts,$(VENV)/bin)
RUN := $(BIN)/python
READY := $(VENV)/.ready
# How many processes share the test suite; 0 for one, which shows each test as it runs.
WORKERS ?= 2

.PHONY: book serve test lab chapters exercises assignment grade bench lint clean
.DEFAULT_GOAL := book

# The environment: made once, and again only when the list of packages changes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	@echo "Installing into $(VENV): a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --quiet --progress-bar on -c constraints.txt -e ".[all]"
	@touch $(READY)

book: $(READY)               ## get the data, build the website, say where it is
	$(RUN) book/build.py

serve: $(READY)              ## build the website and open it on this computer
	$(RUN) book/build.py --serve

test: $(READY)               ## the whole test suite, the chapters' notebooks included
	-$(RUN) tests/browser.py
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile

lab: $(READY)                ## JupyterLab, opened at the first chapter
	$(RUN) -m jupyter lab chapters/01_language_models.ipynb

chapters: $(READY)           ## execute the texts into notebooks: all, or make chapters CHAPTER=02
	$(RUN) chapters/build.py $(CHAPTER)

exercises: $(READY)          ## write the students' notebooks from the solutions: all, or make exercises EX=02
	$(RUN) exercises/build.py $(EX)

assignment: $(READY)         ## what students get: make assignment EX=01
	$(RUN) exercises/classroom.py assignment $(EX)

grade: $(READY)              ## grade a folder of submissions: make grade EX=01 SUBMISSIONS=folder
	$(RUN) exercises/classroom.py grade $(EX) $(SUBMISSIONS)

bench: $(READY)              ## timings next to the peers, in one run: all, or make bench BENCH=ngram
	$(RUN) -m tests.benchmarks $(BENCH)

lint: $(READY)               ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:                       ## remove the environment and whatever was generated but not committed
	rm -rf $(VENV) book/_build classroom build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
