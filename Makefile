# make demo    the main job end to end on the text of the environment's packages: tokenizer, streams, graph, three mixtures, report
# make test    the tests (test-slow: those of several real jobs: object stores, hygiene, elasticity)
#              TESTS=tests/loader runs some of them, WITHOUT='ray or trees' leaves some of the slow ones out
# make lint    ruff and pyright
# Each sets up .venv by itself, once. PYTHON=python3.12 chooses another interpreter; STACK=modern takes the newest torch,
# transformers and numpy in place of those that Composer and Streaming pin, in .venv-modern.
SHELL := /bin/bash
PYTHON ?= python3
STACK ?= pinned
ifeq ($(STACK),modern)
VENV ?= .venv-modern
OVERRIDE := requirements/modern.txt
else ifeq ($(STACK),pinned)
VENV ?= .venv
else
$(error STACK must be pinned or modern, but got: $(STACK))
endif
BIN := $(VENV)/bin
UV = $(BIN)/uv pip install --compile-bytecode --quiet --python $(BIN)/python
# uv installs the 6 GB of torch and its libraries several times faster than pip; where it cannot, pip does. pip cannot
# pass over what a package pins.
INSTALL = $(if $(OVERRIDE),$(UV) --override $(OVERRIDE) $(1),$(UV) $(1) || $(BIN)/pip install --quiet $(1))

# Two processes take the files in turn, in the order of their names: small ones are last.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

export TOKENIZERS_PARALLELISM ?= true
export HF_HUB_DISABLE_TELEMETRY := 1
export PYTHONWARNINGS := ignore::FutureWarning,ignore::DeprecationWarning

.PHONY: demo test test-slow lint format clean

demo: demo/streams/skills.json
	$(BIN)/skillit experiment demo

demo/corpus: | $(VENV)/.installed
	rm -rf $@.part
	$(BIN)/python examples/package_texts.py $@.part
	mv $@.part $@

demo/tokenizer: | demo/corpus
	$(BIN)/skillit tokenizer demo/corpus/train --vocab-size 2048 --out $@

demo/streams/skills.json: | demo/tokenizer
	$(BIN)/skillit convert text demo/corpus --skill-from folder --tokenizer demo/tokenizer --seq-len 128 --eval-tokens 50000 --out demo/streams

test: $(VENV)/.installed-dev
	$(PYTEST) -m 'not slow' $(TESTS)

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(if $(WITHOUT),-k 'not ($(WITHOUT))') $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 13); \
	  sys.exit(None if ok else f"Python 3.10 to 3.13 is needed, but {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv || true
	@touch $@

$(VENV)/.installed: pyproject.toml $(OVERRIDE) | $(VENV)/.python
	@echo "Installing skillit-stream and what it needs into $(VENV) (6 GB, a few minutes the first time)"
	$(call INSTALL,--editable .)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call INSTALL,--editable '.[dev]')
	@touch $@

clean:
	rm -rf $(VENV) .venv-modern demo build *.egg-info
