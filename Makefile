# Everything a newcomer needs: `make demo`, `make test`, `make lint`, `make bench`.
# System packages are installed by scripts/system-packages; the virtual environment is .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEEP ?=
# make test AT_ONCE="-n 0": one after the other. Each worker has servers of its own, and wants about a gigabyte.
AT_ONCE ?= -n 2 --dist worksteal

.PHONY: help setup demo test soak lint bench dist clean

help:
	@echo "make demo    a repository in S3, cached, mounted, read and written, in about a minute"
	@echo "             (make demo KEEP=1 leaves it running)"
	@echo "make test    all tests, with all real servers"
	@echo "make soak    the long tests"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   measure against the peers; writes build/bench.json"
	@echo "make dist    build the wheel and the sdist into dist/"
	@echo "make clean   remove the virtual environment and everything built"

setup: .stamps/venv .stamps/vos

.stamps/system: scripts/system-packages
	@mkdir -p .stamps
	scripts/system-packages
	@touch $@

.stamps/venv: .stamps/system pyproject.toml constraints.txt scripts/make-venv
	PYTHON="$(PYTHON)" scripts/make-venv $(VENV)
	@touch $@

.stamps/vos: .stamps/system tests/servers/vos-constraints.txt scripts/make-vos-venv
	PYTHON="$(PYTHON)" scripts/make-vos-venv .venv-vos
	@touch $@

demo: setup
	$(BIN)/python -m scripts.demo $(if $(KEEP),--keep)

test: setup
	$(BIN)/python -m pytest -m "not soak" $(AT_ONCE) $(ARGS)

soak: setup
	$(BIN)/python -m pytest -m soak $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

dist: setup
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) .venv-peer .venv-vos .stamps build dist
