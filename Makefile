# One command each; every one sets up what it needs in .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
IMAGE_REQUIREMENTS := requirements/image.txt
DEV_REQUIREMENTS := requirements/dev.txt

.PHONY: demo test check bench soak docs requirements release reproducible version clean

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
	$(BIN)/python -m tools.reference --write
	$(BIN)/python deploy/rules/generate.py
	$(BIN)/python deploy/dashboards/generate.py
	$(BIN)/python deploy/helm/generate.py
	$(BIN)/python .ci/address

# Pins every dependency with its hashes, for all supported Python versions and platforms. UPGRADE=--upgrade takes the
# newest ones.
PIN = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(UPGRADE)
requirements: .venv/.dev
	$(PIN) --all-extras pyproject.toml -o $(IMAGE_REQUIREMENTS)
	$(PIN) --all-extras --group dev pyproject.toml -o $(DEV_REQUIREMENTS)
	$(PIN) --group build -o requirements/build.txt

# Builds all that a release consists of from the last commit, into dist/: wheel, sdist, chart, image, bills of materials,
# checksums. IMAGE=no leaves out the image, which needs buildah and root.
release: .venv/.dev
	.ci/release dist

# Builds it all twice, and fails if one byte differs.
reproducible: .venv/.dev
	KEEP=$(CURDIR)/build/base .ci/release dist
	KEEP=$(CURDIR)/build/base .ci/release build/again
	diff --recursive dist build/again

# Makes VERSION the current one everywhere, CHART_VERSION that of the chart, and moves changelog.d/ into CHANGELOG.md.
version: .venv/.dev
	$(BIN)/python .ci/version $(VERSION) $(CHART_VERSION)

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
	rm -rf .venv build dist
