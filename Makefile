# `make` alone lists the targets. `make run` and `make test` are all that a newcomer needs.

PY := .venv/bin/python
HOURS ?= 1
STATE := .chimera
# EXECUTOR=celery for `make run` and `make up`: two Celery workers, or WORKERS=4.
EXECUTOR ?= local
WORKERS ?= 2
ifeq ($(EXECUTOR),celery)
export CHIMERA_WORKERS := $(WORKERS)
else ifneq ($(EXECUTOR),local)
$(error EXECUTOR=$(EXECUTOR): take local or celery)
endif
# PROFILE=litellm for `make run` and `make up`: the sample's calls in LiteLLM's own tables.
ifdef PROFILE
export CHIMERA_PROFILE := $(PROFILE)
endif
# The owner: whatever is started below ends when this make does, even if it is killed.
OWNED := exec $(PY) -m include.chimera
# pytest gets SIGTERM when this make is killed (Linux).
PYTEST := exec $(PY) include/chimera/local/supervision/launch.py --die-with-parent 15 -- $(PY) -m pytest
# Two files at once. Not the end-to-end ring: each of its runs is four tasks at once already.
BESIDE := $(PYTEST) -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run up down status sample sources suites docs pictures test test-unit test-long test-week conformance bench bench-check bench-long check audit lock release clean manifest setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Run the pipeline for one hour of data and report (HOURS=3 for three)
	@$(OWNED) run --hours $(HOURS) --owner $$PPID

up: setup ## Start everything and leave it running, with Airflow's UI
	@$(OWNED) up --owner $$PPID

down: setup ## Stop everything
	@$(OWNED) down

status: setup ## Show what is running, where, and the UI's passwords
	@$(PY) -m include.chimera status || :

test: setup manifest ## Run every test that a change must pass
	@$(BESIDE) -m "not long and not week" tests/unit tests/dags tests/integration tests/conformance
	@$(PYTEST) -m "not long and not week" tests/e2e

test-unit: setup ## Run the unit tests: seconds, no servers
	@$(BESIDE) tests/unit

test-long: setup manifest ## Run the tests that take longer than a change should wait for
	@$(BESIDE) -m long tests/integration tests/conformance
	@$(PYTEST) -m long tests/e2e

test-week: setup manifest ## Run 168 hours with faults on a real scheduler, and 100,000 reads under kills
	@$(PYTEST) -m week -s tests/e2e tests/integration

conformance: setup ## Run dbt's whole conformance suite against the lake
	@$(BESIDE) tests/conformance

bench: setup manifest ## Measure everything beside its peers: a table, JSON and a picture
	@$(PY) -m benchmarks $(if $(ONLY),--only $(ONLY))

bench-check: setup manifest ## Measure what is quick to, and compare the ratios with those kept
	@$(PY) -m benchmarks --only models parse --check

bench-long: setup manifest ## The same with hours and gates of up to ten million rows
	@$(PY) -m benchmarks --long

check: setup ## Check style, types, imports, SQL, YAML, and look for secrets
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -m sqlfluff lint include/dbt
	$(PY) -m yamllint --strict .
	.venv/bin/zizmor --quiet --offline .github
	@# An accepted finding carries `pragma: allowlist secret` on its line. Hashes of packages are none.
	git ls-files -z | grep -zv '^constraints.txt$$' | xargs -0 .venv/bin/detect-secrets-hook

audit: setup ## Look for known vulnerabilities in the locked packages (asks PyPI)
	$(PY) -m pip_audit --requirement constraints.txt --disable-pip --require-hashes --strict

release: setup ## Write what a release ships into dist/, with a bill of materials (asks PyPI)
	@sh scripts/release.sh

sample: setup ## Fill the lake's bronze with one hour, without Airflow (for dbt developers)
	@$(OWNED) sample

sources: setup ## Run the sample application alone, for astro dev start --standalone
	@$(OWNED) sources --owner $$PPID

suites: setup ## Compile the GX suites from include/gx/rules
	@$(PY) -m include.chimera suites

docs: setup ## Write the generated pages of docs/ anew
	@$(PY) -m scripts.run_examples
	@$(PY) -m scripts.column_lineage
	@$(PY) -m scripts.generate_docs

pictures: setup manifest ## Take the health page's pictures in docs/ anew (chromium-headless-shell)
	@$(PYTEST) --pictures docs -k pictures tests/integration/flow/test_health_browser.py

lock: setup ## Write constraints.txt anew from the requirements
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header requirements-dev.txt -o constraints.txt

clean: ## Stop everything and remove all state (.chimera)
	@if [ -x $(PY) ]; then $(PY) -m include.chimera down; fi
	rm -rf $(STATE) .airflow-dbt

manifest: setup ## Build dbt's manifest for Airflow, if the dbt project has changed
	@$(OWNED) manifest

setup: ## Make .venv what the lock says (every other target does it first)
	@PYTHON="$(PYTHON)" sh scripts/setup.sh
