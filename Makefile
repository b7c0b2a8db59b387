# Every target builds .venv first, from nothing but python3 (3.11 or newer) and pip.
# Another Python: make PYTHON=/path/to/python3.12 test

PYTHON ?= python3
BIN    := .venv/bin
BENCH  ?= [!_]*
SETUP  := $(PYTHON) tools/setup_env.py
ifneq ($(origin PYTHON),file)
SETUP  += --this-python
endif

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport PYTHONHOME
unexport VIRTUAL_ENV

.PHONY: help demo test check bench docs clean core dev

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: core ## train a classifier on the sample data and show how far to trust it
	@$(BIN)/warmstart demo

test: check ## lint, types and all tests
	@$(BIN)/warmstart models fetch smollm2 >/dev/null 2>&1 || echo "smollm2 cannot be fetched here: its tests are skipped"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal

check: dev ## lint and types only
	@printf 'ruff check   '; $(BIN)/ruff check .
	@printf 'ruff format  '; $(BIN)/ruff format --check .
	@printf 'pyright      '; $(BIN)/pyright

bench: ## run the benchmarks; one of them: make bench BENCH=finetune
	@$(SETUP) bench
	@for script in bench/$(BENCH).py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: dev ## execute every code block of the README and the guide
	@$(BIN)/pytest -q tests/test_docs.py

clean: ## remove the environment and all caches; runs stay
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	@find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

core dev:
	@$(SETUP) $@
