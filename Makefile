# Each target does its own set-up. Settings: GRAFT_HOME, GRAFT_CLASSIFIERS, GRAFT_BUCKETS (README).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
STAMP := .venv/.graft-setup
# One process more than cores, for the stack's tests mostly wait; each takes up to 2 GB. Files start in their order: the stack early.
TEST_PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4)))
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --no-loadscope-reorder
LOCKS := --require-hashes -r requirements.txt -r requirements-dev.txt
# `make demo PROFILE=team` and `make up PROFILE=team`: an environment beside ./.venv, with what only a team's stack needs.
TEAM := build/team
TEAM_STAMP := $(TEAM)/.graft-setup
GRAFT := $(if $(filter team,$(PROFILE)),$(TEAM)/bin,$(BIN))/graft
# Ray's own environment, of `make test-ray` and `graft ray up`: it shares no package with ./.venv.
RAY := build/ray
RAY_STAMP := $(RAY)/.graft-setup
STACK_OPTIONS := $(if $(PROFILE),--profile $(PROFILE))
STACK_SETUP := $(if $(filter team,$(PROFILE)),$(TEAM_STAMP))
# Where `make images` keeps images: some GB, below a directory of its own; `make clean` removes it with build.
IMAGES ?= build/images
SOURCES := .ci pipeline plugins dags tests benchmarks docker

# pip knows this machine's package registry; uv is told what pip was told.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export SSL_CERT_FILE ?= $(PIP_CERT)
unexport_empty = $(if $($(1)),,$(eval unexport $(1)))
$(foreach name,UV_DEFAULT_INDEX UV_FIND_LINKS SSL_CERT_FILE,$(call unexport_empty,$(name)))

.PHONY: help setup demo test test-browser test-clients test-team test-ray images test-images soak check format lint type docs reference bench screenshots notebooks terminals up down ray clean lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make ./.venv with the project installed
	@:

$(STAMP): requirements.txt requirements-dev.txt requirements.in pyproject.toml setup.py Makefile
	@$(PYTHON) -c 'import sys; ok = sys.version_info[:2] == (3, 11); ok or sys.exit(f"Python 3.11 is needed, $(PYTHON) is {sys.version.split()[0]}. Say where it is: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "1/3 installing the installer, uv $(UV_VERSION), into ./.venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "2/3 installing the locked packages; the first time that takes a minute or two"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(LOCKS) \
	  || { echo "uv could not install; trying pip, which may know other registries"; \
	       $(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCKS); }
	@echo "3/3 installing Graft itself"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m compileall -q pipeline plugins dags
	@touch $@

$(TEAM_STAMP): requirements-team.txt $(STAMP)
	@echo "installing PostgreSQL, Redis and Celery into ./$(TEAM)"
	@$(BIN)/python -m venv --clear --without-pip $(TEAM)
	@$(BIN)/python -c 'import pathlib, sysconfig; packages = sysconfig.get_path("purelib"); \
	  pathlib.Path(packages.replace("/.venv/", "/$(TEAM)/"), "graft-venv.pth").write_text(f"import site; site.addsitedir({packages!r})\n")'
	@$(BIN)/uv pip install --quiet --python $(TEAM)/bin/python --no-deps --require-hashes -r requirements-team.txt \
	  || $(BIN)/python -m pip --python $(TEAM)/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-team.txt
	@sed "1s|.*|#!$(CURDIR)/$(TEAM)/bin/python|" $(BIN)/graft > $(TEAM)/bin/graft && chmod +x $(TEAM)/bin/graft
	@touch $@

$(RAY_STAMP): requirements-ray.txt $(STAMP)
	@echo "installing Ray into ./$(RAY)"
	@$(BIN)/python -m venv --clear --without-pip $(RAY)
	@$(BIN)/uv pip install --quiet --python $(RAY)/bin/python --compile-bytecode --require-hashes -r requirements-ray.txt \
	  || $(BIN)/python -m pip --python $(RAY)/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements-ray.txt
	@touch $@

demo: setup $(STACK_SETUP) ## Start the stack, train and deploy `surfaces`, predict; leaves the stack up. PROFILE=team: on Celery
	@$(GRAFT) demo $(STACK_OPTIONS)

test: setup ## Run the whole test suite
	$(PYTEST) $(PYTEST_ARGS)

test-browser: setup ## Run the tests of the pages in Chromium, installed where it can be; `make test` runs them where it is
	@.ci/install_chromium
	$(BIN)/python -m pytest tests/e2e/test_pages.py $(PYTEST_ARGS)

test-clients: setup ## Run original clients against the engine: Airflow 2.10's operators, TFX's, and others, installed in $GRAFT_TEST_CLIENTS
	GRAFT_SOAK=1 $(BIN)/python -m pytest tests/integration/test_original_clients.py $(PYTEST_ARGS)

test-team: setup $(TEAM_STAMP) ## Run a team's demo, and the engines' tests on PostgreSQL, started for them; GRAFT_SOAK=1: kill workers and servers, cut off hosts
	GRAFT_TEST_TEAM=1 $(TEAM)/bin/python -m pytest tests/e2e/test_team.py tests/e2e/test_team_hosts.py tests/e2e/test_team_servers.py $(PYTEST_ARGS)
	GRAFT_TEST_DATABASE=postgresql $(subst $(BIN),$(TEAM)/bin,$(PYTEST)) tests/contract tests/unit/pipeline/engine/test_postgres.py tests/integration/test_engine_durability.py $(PYTEST_ARGS)
	GRAFT_SOAK=1 $(TEAM)/bin/python -m pytest tests/integration/test_engine_replicas.py $(PYTEST_ARGS)

test-ray: setup $(RAY_STAMP) ## Run jobs on a Ray cluster of three hosts in namespaces, started for them; lose a host, and the head. As root
	GRAFT_TEST_RAY=1 $(BIN)/python -m pytest tests/integration/test_ray_hosts.py tests/integration/test_ray_backend.py tests/integration/test_ray_replicas.py $(PYTEST_ARGS)

images: setup ## Build the images of docker/ without Docker, list their packages, and check what is in them. Needs root and buildah
	@test -x build/sbom/bin/debsbom || $(PYTHON) -m venv --without-pip build/sbom
	@$(BIN)/uv pip install --quiet --python build/sbom/bin/python --require-hashes -r requirements-images.txt
	@$(BIN)/python docker/images.py --storage $(IMAGES) --tools build/sbom/bin --out build/sbom

test-images: setup images ## Start the engine and Airflow from the images, in a chroot, and ask for their health
	GRAFT_TEST_IMAGES=$(abspath $(IMAGES)) $(BIN)/python -m pytest tests/e2e/test_images.py $(PYTEST_ARGS)

soak: setup ## Run the same tests at full counts
	GRAFT_SOAK=1 $(PYTEST) $(PYTEST_ARGS)

check: lint type test ## Lint, type-check and test; edits nothing

format: setup ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lint: setup ## Check style, formatting and which room imports which
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-logo --no-cache --config pyproject.toml
	cd plugins && ../$(BIN)/lint-imports --no-logo --no-cache --config .importlinter
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs $(SOURCES)

type: setup ## Check types
	$(BIN)/mypy pipeline plugins

docs: setup ## Build the documentation as a site, build/site; it needs no network to read
	@test -x build/venv/bin/mkdocs || $(PYTHON) -m venv build/venv
	@$(BIN)/uv pip install --quiet --python build/venv/bin/python --require-hashes -r requirements-docs.txt
	@rm -rf build/docs build/site && mkdir -p build/docs
	@cp -r README.md CONTRIBUTING.md CHANGELOG.md LICENSE docs dags build/docs
	@$(BIN)/python -m tests.docs.notebook_pages build/docs/docs/notebooks
	@NO_MKDOCS_2_WARNING=1 build/venv/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html; to search it: $(PYTHON) -m http.server --bind 127.0.0.1 --directory build/site"

reference: setup ## Write the pages of the reference that the code tells: docs/yaml, docs/errors.md, docs/artifacts.md
	$(BIN)/python -m tests.docs.reference

bench: setup ## Measure, and write docs/performance.md
	$(BIN)/python -m benchmarks

screenshots: setup ## Make the pictures of the documentation from the pages of the stack that runs, after `make demo`
	$(BIN)/python -m tests.e2e.screenshots docs/images

notebooks: setup ## Run the notebooks of the documentation and keep their outputs in them, after `make demo`
	$(BIN)/python -m tests.e2e.notebooks

terminals: setup ## Photograph every command and ten errors at 80 columns, light and dark, into build/terminals
	$(BIN)/python -m tests.e2e.terminal build/terminals

up: setup $(STACK_SETUP) ## Start the engine and Airflow; PROFILE=team: PostgreSQL, Redis and Celery workers, too
	@$(GRAFT) up $(STACK_OPTIONS)

down: setup ## End every process of the stack
	@$(BIN)/graft down

ray: setup $(RAY_STAMP) ## Install Ray into build/ray; then `graft ray up` starts a cluster on this machine
	@:

clean: ## Stop the stack; remove its state, the caches and ./.venv
	@if test -x $(BIN)/graft; then $(BIN)/graft down; $(BIN)/graft ray down; fi
	@home="$${GRAFT_HOME:-.graft}"; if test -e "$$home/stack.json"; then rm -rf "$$home"; fi
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

lock: setup ## Compile requirements.in and its companions into their locks
	@for name in requirements requirements-dev requirements-docs requirements-images; do \
	  $(BIN)/uv pip compile --quiet --generate-hashes --python $(BIN)/python -o $$name.txt $$name.in; done
	@$(BIN)/uv pip compile --quiet --generate-hashes --python $(BIN)/python --custom-compile-command "make lock" \
	  $$(sed -nE 's/^([A-Za-z0-9._-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements.txt) -o requirements-team.txt requirements-team.in
	@$(BIN)/uv pip compile --quiet --generate-hashes --python $(BIN)/python --custom-compile-command "make lock" \
	  -o requirements-ray.txt requirements-ray.in
