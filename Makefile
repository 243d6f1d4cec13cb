# Two commands set everything up on a machine with Python 3.11+ and make:
#   make demo    installs the core and checks a sample file with the built-in guard
#   make test    installs everything and runs lint, types, import rules and the whole suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of PyTorch: the default build brings several gigabytes of CUDA that tests do not use.
TORCH ?= torch==2.13.0

.PHONY: demo test test-slow test-gateways test-fullsize lint bench docs sbom audit clean

$(VENV)/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.all: pyproject.toml $(VENV)/.core
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[all]" --group dev
	touch $@

demo: $(VENV)/.core
	$(BIN)/wardgate check --file examples/sample.txt || test $$? -eq 10

test: $(VENV)/.all lint
	$(BIN)/python -m pytest -m "not slow and not fullsize and not shared" -n 2 --dist worksteal

test-slow: $(VENV)/.all
	$(BIN)/python -m pytest -m "slow or shared"

# The LiteLLM proxy and NeMo Guardrails need versions of their own of what wardgate needs too.
test-gateways: $(VENV)/.all
	test -x .venv-litellm/bin/litellm || ($(PYTHON) -m venv .venv-litellm && .venv-litellm/bin/pip install -q "litellm[proxy]")
	test -d .venv-nemo || ($(PYTHON) -m venv .venv-nemo && .venv-nemo/bin/pip install -q nemoguardrails)
	WARDGATE_LITELLM=$(CURDIR)/.venv-litellm/bin/python WARDGATE_NEMO=$(CURDIR)/.venv-nemo/bin/python \
		$(BIN)/python -m pytest -m slow tests/serve/test_gateways.py

test-fullsize: $(VENV)/.all
	$(BIN)/python -m pytest -m fullsize

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.all
	$(BIN)/wardgate bench

# The documentation site, in site/; a warning is an error. `make test` builds it as well.
docs: $(VENV)/.all
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What a bare installation of the core brings, as CycloneDX, and what is known against it.
$(VENV)-release: pyproject.toml $(VENV)/.all
	rm -rf $@ && $(PYTHON) -m venv --without-pip $@ && $(BIN)/python -m pip --python $@/bin/python install --quiet .
	$(BIN)/python -m pip install --quiet --group release

sbom: $(VENV)-release
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o dist/sbom.json $(VENV)-release/bin/python

# A package that the database does not know is a failure, not a pass.
audit: $(VENV)-release
	mkdir -p dist
	$(BIN)/python -m pip --python $(VENV)-release/bin/python freeze --all --exclude wardgate > dist/core.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r dist/core.txt

clean:
	rm -rf $(VENV)-release site $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
