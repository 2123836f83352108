# make quickstart   environment, data, training, COCO table and pictures of detections, starting from a fresh clone
# make test         environment and the fast tests; make test-slow runs the slow ones
# make lint         ruff and mypy
# make fuzz         random damage to data sets for MINUTES=5
# make docs         the documentation site, in site/; a broken link or docstring ends it
# Options: PYTHON=python3.12 (for the environment), VENV=folder, WORK_DIR=folder, JOBS=2 (processes of the tests),
#          ARGS='more pytest options'

PYTHON ?= python3
VENV ?= .venv
CONFIG := configs/sparse_rcnn_r18_digits.py
MINUTES ?= 5
JOBS ?= 2
WORK_DIR ?= work_dirs/sparse_rcnn_r18_digits
DATA := data/digits
PICTURES := $(abspath $(WORK_DIR))/detections
PY := $(VENV)/bin/python

.PHONY: help venv data train quickstart test test-slow fuzz lint docs clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST)) | head -n 7

venv: $(VENV)/.installed
data: $(DATA)/.made
train: $(WORK_DIR)/.trained

# Each of these files marks a finished step, so that a second run skips it.
$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: $(PYTHON) is missing or older than 3.10; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install -r requirements.txt
	@# On a machine without a display, cv2 may lack libGL. The headless build does not need it and replaces the other one.
	@$(PY) -c 'import cv2' 2>/dev/null || \
	  $(PY) -m pip install --force-reinstall --no-deps $$(grep '^opencv-python-headless' requirements.txt)
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	@touch $@

$(DATA)/.made: | $(VENV)/.installed
	$(PY) tools/make_digits.py --out $(DATA)
	@touch $@

# --resume: an interrupted training continues from its last checkpoint.
$(WORK_DIR)/.trained: | $(DATA)/.made
	$(PY) tools/train.py $(CONFIG) --work-dir $(WORK_DIR) --resume
	@touch $@

quickstart: $(WORK_DIR)/.trained
	$(PY) tools/test.py $(CONFIG) "$$(cat $(WORK_DIR)/last_checkpoint)" --show-dir "$(PICTURES)"
	@echo
	@echo "Pictures of detections on the validation images (delete $(WORK_DIR) to train anew):"
	@echo "$(PICTURES)"

# Each process takes the next tests in order, so that the tests of a file share what is made once for them.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal

test: $(VENV)/.installed
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow $(ARGS)

fuzz: $(VENV)/.installed
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); rounds=0; while [ $$(date +%s) -lt $$end ]; do \
	  FUZZ_EXAMPLES=100 $(PY) -m pytest -q -x tests/own_data/test_fuzz.py $(ARGS) || exit 1; \
	  rounds=$$((rounds + 1)); echo "$$rounds rounds of 100 examples for each form"; done

lint: $(VENV)/.installed
	$(PY) -m ruff check .
	$(PY) -m mypy

$(VENV)/.docs-installed: docs/requirements.txt | $(VENV)/.installed
	$(PY) -m pip install --quiet -r docs/requirements.txt
	@touch $@

# The variable silences an advertisement of the theme.
docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo "$(abspath site)/index.html"

clean:
	rm -rf build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
