# Two commands do everything: `make figures` and `make test`. Both create the environment if it is missing.
PYTHON ?= python3
PROFILE ?= quick
MODE ?= cached

# Where the conda environment `vitlib` (environment.yml) is active it is used; otherwise .venv, made from requirements.lock.
ifeq ($(CONDA_DEFAULT_ENV),vitlib)
PY := $(CONDA_PREFIX)/bin/python
READY := conda-ready
else
PY := .venv/bin/python
READY := .venv/.ready
endif

# A profile that not every document has is refused here, before an environment is built for it.
PROFILES := $(shell awk -F '[].[]' '/^\[profile\.[a-z0-9_]+\]/ { found[$$3]++ } END { for (name in found) if (found[name] == ARGC - 1) print name }' \
	$(patsubst %published.csv,%entry.toml,$(wildcard vitlib/papers/*/published.csv)) | sort)
ifneq ($(words $(PROFILE)) $(filter $(PROFILES),$(PROFILE)),1 $(PROFILE))
$(error PROFILE: got '$(PROFILE)'; allowed: $(PROFILES))
endif

MODES := cached force read-only retry
ifneq ($(words $(MODE)) $(filter $(MODES),$(MODE)),1 $(MODE))
$(error MODE: got '$(MODE)'; allowed: $(MODES))
endif

# A module that one target alone needs, installed into the environment on its first use.
with = $(PY) -c "import $(1)" 2>/dev/null || { echo "make: installing $(2) into the environment"; \
	$(PY) -m pip --version >/dev/null 2>&1 && $(PY) -m pip install --quiet --disable-pip-version-check "$(2)" \
	|| $(PY) -m uv pip install --quiet --python $(PY) "$(2)"; }

.PHONY: figures renew test faults audit sbom lab browser cluster site site-check new-paper nbref readme bench lock lint conda-ready

figures: $(READY)  ## every table and figure, and the executed notebooks, into figures/
	@echo "make: running every notebook at profile $(PROFILE), mode $(MODE)"
	@$(PY) -m vitlib notebooks --profile $(PROFILE) --mode $(MODE)

renew: $(READY)  ## what is committed in figures/, from its own results; files whose content stays are not touched
	@$(PY) -m tests.renew_figures

# Two workers on two cores: with more threads each, they wait for each other.
test: export OMP_NUM_THREADS = 1
test: $(READY)  ## everything a reviewer would run; no network, no GPU needed
	@echo "make: running the tests, then nbval over the executed copies in tests/nbref"
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -p no:nbval tests
	@$(PY) -m pytest -q -n 2 --dist loadfile -p tests.nbval_plugin tests/nbref --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
		--nbval-cell-timeout 300 --nbval-kernel-startup-timeout 120

faults: export OMP_NUM_THREADS = 1
faults: $(READY)  ## every fault and every hostile file at length, with counts at the end
	@KEEP_COUNTS=1 $(PY) -m pytest -q -m "faults or not faults" tests/faults

audit: $(READY)  ## licences of files and packages renewed, and the lock held against known advisories, by pip-audit: the one command that asks others
	@$(PY) -m docs.audit licences
	@$(call with,pip_audit,pip-audit>=2.9)
	@$(PY) -m docs.audit advisories

sbom: $(READY)  ## the software bill of materials for a release, CycloneDX, from the lock into build/
	@$(call with,cyclonedx_py,cyclonedx-bom>=7)
	@$(PY) -m docs.audit bill

lab: $(READY)  ## JupyterLab on the checkout, at start.ipynb
	@$(PY) -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/start.ipynb

browser: export OMP_NUM_THREADS = 1
browser: $(READY)  ## every explorer, the stop button and the start notebook in JupyterLab in a headless Chromium, which must be installed
	@$(PY) -c "import playwright" 2>/dev/null || { echo "make: installing playwright, which drives the browser, into the environment"; \
		$(PY) -m pip --version >/dev/null 2>&1 && $(PY) -m pip install --quiet --disable-pip-version-check "playwright>=1.49" \
		|| $(PY) -m uv pip install --quiet --python $(PY) "playwright>=1.49"; }
	@$(PY) -m pytest -q -m browser tests/browser

cluster: export OMP_NUM_THREADS = 1
cluster: $(READY)  ## a Slurm of one node (Debian: slurm-wlm and munge) and a Ray cluster, started and ended here; what is not installed is skipped
	@$(PY) -m pytest -q -m cluster tests

site: $(READY)  ## executed notebooks, scoreboard, guides and API as pages that work from disk, in site/
	@$(PY) -m docs.site --install

site-check: $(READY)  ## the built site in a headless browser: accessibility, formulas, nothing fetched from elsewhere
	@$(PY) -m docs.site.axe

new-paper: $(READY)  ## a document to start from: make new-paper NAME=its_name
	@$(PY) -m templates "$$NAME"

nbref: $(READY)  ## renew the executed copies that nbval repeats
	@$(PY) -m tests.renew_nbref

readme: $(READY)  ## renew the tables of README.md and docs/ from figures/, and the drawing of CONTRIBUTING.md from the imports
	@$(PY) -m tests.renew_readme
	@$(PY) -m tests.renew_house

bench: $(READY)  ## benchmarks; ratios as JSON beside the scripts
	@$(PY) -m benchmarks

lint: $(READY)
	@$(PY) -m ruff check vitlib tests benchmarks templates docs notebooks start.ipynb
	@$(PY) -m ruff format --check vitlib tests benchmarks templates docs

lock: .venv/.ready  ## renew requirements.lock
	@.venv/bin/python -m uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 \
		--no-header --upgrade --quiet -o requirements.lock

conda-ready:
	@(cd / && $(PY) -c "import vitlib" 2>/dev/null) || { echo "make: installing vitlib into the conda environment $(CONDA_DEFAULT_ENV)"; \
		$(PY) -m pip install --quiet --no-deps -e .; }

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "make: $(PYTHON) is missing or older than Python 3.11; say which to use: make PYTHON=python3.12 ..."; exit 1; }
	@echo "make: creating the environment in .venv from requirements.lock (once; some minutes, about 6 GB)"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv/bin/python -m uv pip sync --quiet --python .venv/bin/python --compile-bytecode --require-hashes requirements.lock
	@.venv/bin/python -m uv pip install --quiet --python .venv/bin/python --no-deps -e .
	@touch $@
	@echo "make: environment ready"
