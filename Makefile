# make run   serve on http://localhost:7071 with real parts, no Azure account
# make test  run the tests
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
HOST   ?= localhost
PORT   ?= 7071
ARGS   ?=

SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c
# One line a package: enough to see that something happens.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
BRIEFLY := sed -u -n -e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^Installing collected packages.*/  unpacking/p'

.PHONY: run loop-demo test test-training test-browser check bench clean
.DELETE_ON_ERROR:

run: $(VENV)/localhost.stamp
	@exec $(BIN)/python -m localhost --host $(HOST) --port $(PORT) $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not training and not browser" $(ARGS)

# The whole loop on this machine: people correct, a model is retrained, judged and promoted.
# DATA=FILE plays it on tweets of your own (label, text). Installs torch, transformers and MLflow first.
loop-demo: $(VENV)/localhost.stamp $(VENV)/train.stamp
	@exec $(BIN)/python -m localhost demo $(if $(DATA),--data "$(DATA)") $(ARGS)

# Heavy: installs torch, transformers and MLflow first.
test-training: $(VENV)/dev.stamp $(VENV)/train.stamp
	$(BIN)/python -m pytest -m training $(ARGS)

# The page in a real browser: needs Chromium (apt-get install chromium).
test-browser: $(VENV)/dev.stamp $(VENV)/browser.stamp
	$(BIN)/python -m pytest -m browser $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/localhost.stamp $(VENV)/train.stamp
	$(BIN)/python -m benchmarks.serving --model seed-model --json build/serving.json $(ARGS)
	$(BIN)/python -m benchmarks.explaining --model seed-model
	$(BIN)/python -m benchmarks.concurrency --model seed-model --json build/concurrency.json
	$(BIN)/python -m benchmarks.telemetry --model seed-model --json build/telemetry.json
	$(BIN)/python -m benchmarks.feedback --json build/feedback.json

clean:
	rm -rf $(VENV) .localhost build .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python found; install Python 3.11 or 3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: requirements-%.txt requirements.txt requirements-localhost.txt | $(VENV)/bin/python
	@echo "installing $< (once)"
	@$(INSTALL) -r $< | $(BRIEFLY) || { echo "error: the packages in $< could not be installed; is there a network?" >&2; exit 1; }
	@touch $@
