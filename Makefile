# Needs Python 3.11 or newer and make; everything else is set up in .venv/. `make` alone prints this help.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/made-from
STATE ?= var
PORT ?= 8080
JOBS ?= auto
DEEDS ?= 400
REGIONS ?= 6
SEED ?= 1
LOCKS := deploy/requirements

.DEFAULT_GOAL := help
.PHONY: help demo run test check lint unit chaos bench translations screenshots lock clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## one minute: certificates into three regions, a failure retried, webhooks, a reminder mail
	@$(BIN)/certfleet demo

run: $(STAMP) ## the whole stack until Ctrl-C: http://127.0.0.1:8080 (STATE=var PORT=8080)
	@$(BIN)/certfleet up --state-dir "$(STATE)" --port $(PORT)

test: lint ## everything: lint, types, imports, all tests (real PostgreSQL and Redis, no set-up needed)
	$(BIN)/pytest -n $(JOBS) --maxprocesses 8 --dist loadgroup

check: lint unit ## the fast loop: lint, types, imports, unit tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services shared tests
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -q tests/unit

chaos: $(STAMP) ## the long chaos run: everything is killed, nothing may be lost (DEEDS=400 REGIONS=6 SEED=1)
	CERTFLEET_CHAOS_DEEDS=$(DEEDS) CERTFLEET_CHAOS_REGIONS=$(REGIONS) CERTFLEET_CHAOS_SEED=$(SEED) \
		$(BIN)/pytest -q -s tests/chaos

bench: $(STAMP) ## figures for this machine (printed, not judged)
	$(BIN)/pytest -q -s tests/bench

translations: $(STAMP) ## take the console's texts out of its sources, and compile what is translated
	@$(BIN)/python -m tests.support.translations

screenshots: $(STAMP) ## pictures of every page of the console, light, dark, on a phone, into docs/images
	@$(BIN)/python -m tests.support.screenshots

lock: $(STAMP) ## choose newest versions and write deploy/requirements/*.txt
	@PYTHON="$(BIN)/python" sh $(LOCKS)/lock.sh

clean: ## remove .venv and caches (not the state directory)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find services shared tests deploy docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(LOCKS)/dev.txt pyproject.toml deploy/make_venv.py
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer on PATH; install one, or: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) deploy/make_venv.py
