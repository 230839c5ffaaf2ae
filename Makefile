# The verbs: train, test, test-slow, test-next, lint, bench, clean.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: train test test-slow test-next lint bench clean

train: $(STAMP)
	$(BIN)/metaloop train

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --timeout=3600

# The newest of everything, in an environment of its own; continuous integration can call the script.
test-next:
	PYTHON=$(PYTHON) sh tests/next.sh $(VENV)-next

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# make bench PEERS=VENV, a virtual environment with learn2learn, higher and torchopt, measures them too.
bench: WITH_PEERS = $(if $(PEERS),--peers $(PEERS))
bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(WITH_PEERS)
	$(BIN)/python benchmarks/speed.py $(WITH_PEERS) --device cuda
	$(BIN)/python benchmarks/agreement.py $(WITH_PEERS)
	$(BIN)/python benchmarks/evaluation.py $(WITH_PEERS)
	$(BIN)/python benchmarks/sampling.py $(WITH_PEERS)
	$(BIN)/python benchmarks/memory.py $(WITH_PEERS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/launching.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/seeds.py
	$(BIN)/python benchmarks/reporting.py
	$(BIN)/python benchmarks/pages.py

clean:
	rm -rf $(VENV) $(VENV)-next build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis

# torch first and pinned: a range would take the newest build with everything for GPUs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaloop needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
