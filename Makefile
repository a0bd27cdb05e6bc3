# A person needs `make demo` and `make test`; `make help` lists the rest.

# The first supported interpreter found; PYTHON=... on the command line chooses another.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported: most of those installed never are.
PIP_INSTALL := $(BIN)/python -m pip -qq --disable-pip-version-check install --no-compile

# What `pip install` is given for each stamp.
WANTS_demo := -e '.'
WANTS_test := -e '.[test]'
WANTS_oracle := -e '.[test,oracle]' torch==2.13.0
WANTS_check := -e '.[dev]'
WANTS_docs := -e '.[docs]'

.PHONY: help demo report docs test test-avx2 check clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo            install, then invert the embedded images into demo/'
	@echo 'make report          install, then remake the report into report/, with what is bundled alone'
	@echo 'make docs            install Sphinx, then build the documentation, its notebooks run, into site/'
	@echo 'make test            install, then run the tests, two files at a time; ARGS="-k name" goes to pytest'
	@echo 'make test ORACLE=1   the same with PyTorch installed, as the oracle of some tests'
	@echo 'make test-avx2       the tests that promise the same bytes, as on a processor without AVX-512'
	@echo 'make check           install ruff and mypy, then lint, format check and types'
	@echo 'make clean           remove demo/, report/, site/ and every cache; .venv stays'
	@echo 'PYTHON=python3.12    before the first call: the interpreter to use (3.11 to 3.13)'

demo: $(VENV)/demo.stamp
	$(BIN)/posenet-jax demo

report: $(VENV)/demo.stamp
	$(BIN)/posenet-jax report --out=report

# Warnings are errors. Notebooks are run again when they have changed, or after `make clean`.
docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . site

# With ORACLE=1 a missing oracle is a failure, not a skipped test.
test: $(VENV)/$(if $(filter 1,$(ORACLE)),oracle,test).stamp
	$(if $(filter 1,$(ORACLE)),POSENET_ORACLE=1) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Kernels for other processors round otherwise, some of them each row of a batch in its own way.
test-avx2: $(VENV)/$(if $(filter 1,$(ORACLE)),oracle,test).stamp
	$(BIN)/python tests/avx2_only.py -m bytes -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/check.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo report site jupyter_execute .jupyter_cache build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# pip comes last when an environment is made, so its presence says that the making was finished.
$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'No Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo '$(PYTHON) is not Python 3.11, 3.12 or 3.13' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of requirements: made again only when a requirement may have changed.
$(VENV)/%.stamp: setup.cfg setup.py pyproject.toml | $(BIN)/pip
	$(PIP_INSTALL) $(WANTS_$*)
	@touch $@
