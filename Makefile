# make demo   set up .venv, train with and without FADE on generated pictures, draw the difference
# make test   set up .venv and run the test suite
# make test-slow  and the tests that are left out there, which take longer
# make gpu    on a GPU machine, with torch, numpy and pytest alone or in .venv: check, then measure;
#             results in gpu.json
# make setup  set up .venv alone
#
# PYTHON  interpreter to set up with, 3.11 or 3.12
# TORCH   what pip installs torch from, e.g. another version, with any option of pip

SHELL := bash
PYTHON ?= $(firstword $(shell for v in 3.11 3.12; do python$$v -c '' 2>/dev/null && echo python$$v; done; true) python3)
TORCH ?= -r requirements/torch.txt
VENV := .venv
PIP := $(VENV)/bin/python -m pip

.PHONY: setup demo test test-slow gpu lint clean
setup: $(VENV)/.ready

# Each step leaves a mark, so that an interrupted set-up goes on where it stopped.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "Python 3.11 or 3.12 is needed, $(PYTHON) is another; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch: $(VENV)/.python requirements/torch.txt
	$(PIP) install --quiet $(TORCH)
	touch $@

# Python's own flags but for -g, which doubles the time; flags in the environment replace all of them.
# mmcv would run 4 compilers or more, with as much memory, whatever the processor.
$(VENV)/.mmcv: FLAGS := -DNDEBUG -fwrapv -O3 -g0
$(VENV)/.mmcv: $(VENV)/.torch requirements/build.txt requirements/mmcv.txt
	$(PIP) install --quiet -r requirements/build.txt
	@echo "Installing mmcv: the first time, it is compiled, which takes some minutes."
	@set -o pipefail; MMCV_WITH_OPS=1 MAX_JOBS=$${MAX_JOBS:-$$(getconf _NPROCESSORS_ONLN)} \
	  CFLAGS="$(FLAGS) $$CFLAGS" CXXFLAGS="$(FLAGS) $$CXXFLAGS" \
	  $(PIP) install --verbose --no-build-isolation -r requirements/mmcv.txt 2>&1 \
	  | tee $(VENV)/mmcv.log \
	  | awk 'match($$0, /\[[0-9]+\/[0-9]+\]/) { print "mmcv: file " substr($$0, RSTART, RLENGTH); fflush() }' \
	  || { tail -n 40 $(VENV)/mmcv.log; exit 1; }
	touch $@

# The import makes yapf's cache, which several processes of one training cannot do at once.
$(VENV)/.ready: $(VENV)/.mmcv setup.py $(wildcard requirements/*.txt fade_mm/ops/backend/cpu/csrc/*)
	$(PIP) install --quiet $(foreach name,runtime mmdet mmseg onnx tests,-r requirements/$(name).txt)
	$(PIP) install --quiet --no-build-isolation --no-deps -e .
	$(VENV)/bin/python -W ignore -c 'import mmengine'
	touch $@

demo: setup
	$(VENV)/bin/python tools/demo_training.py

PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

test: setup
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m slow

gpu: GPU_PYTHON := $(firstword $(wildcard $(VENV)/bin/python) $(PYTHON))
gpu:
	@$(GPU_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || \
	  { echo "make gpu needs a GPU and a torch that finds it; $(GPU_PYTHON) has none"; exit 1; }
	$(GPU_PYTHON) -m pytest -m 'slow or not slow' -k 'cuda or triton' tests/ops tests/upsamplers
	PYTHONPATH=. $(GPU_PYTHON) tools/benchmark_ops.py --published --json gpu.json

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV)
