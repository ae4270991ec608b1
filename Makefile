# One command each; every one sets up what it needs in .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
IMAGE_REQUIREMENTS := requirements/image.txt
DEV_REQUIREMENTS := requirements/dev.txt

.PHONY: demo test check bench soak docs requirements clean

demo: .venv/.run
	$(BIN)/vendor-alert-exporter demo

test: .venv/.dev
	$(BIN)/pytest -n 2 --dist worksteal

check: .venv/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	$(BIN)/python -m benchmarks

soak: .venv/.dev
	$(BIN)/python -m tests.soak

# Writes the generated pages of docs/ and the generated parts of deploy/.
docs: .venv/.dev
	$(BIN)/python -m exporter.reference --write
	$(BIN)/python deploy/dashboards/generate.py
	$(BIN)/python deploy/helm/generate.py

# Pins every dependency with its hashes, for all supported Python versions and platforms.
requirements: .venv/.dev
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras pyproject.toml -o $(IMAGE_REQUIREMENTS)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras --group dev pyproject.toml -o $(DEV_REQUIREMENTS)

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; none was found" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: $(BIN)/python $(IMAGE_REQUIREMENTS) pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r $(IMAGE_REQUIREMENTS)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.dev: $(BIN)/python $(DEV_REQUIREMENTS) pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r $(DEV_REQUIREMENTS)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@ .venv/.run

clean:
	rm -rf .venv
