# Verbs of the project; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOC := .protoc-venv
PROOF_MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup demo test check proof fmt protos sdk bench docs

help: ## list the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Shardcast needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,check]'
	@touch $@

$(PROTOC)/.installed:
	$(PYTHON) -m venv $(PROTOC)
	$(PROTOC)/bin/pip install --quiet --disable-pip-version-check 'grpcio-tools==1.76.0' 'mypy-protobuf==5.1.0'
	@touch $@

setup: $(VENV)/.installed-test ## make .venv with everything for development

demo: $(VENV)/.installed ## the main job: a promotion to 1,000,000 users, each exactly once
	$(BIN)/shardcast demo $(DEMO)

test: $(VENV)/.installed-test ## the short tests
	$(BIN)/pytest -n 2 --dist loadfile -m 'not proof' $(TESTS)

proof: $(VENV)/.installed-test ## the long tests, for PROOF_MINUTES minutes
	PROOF_MINUTES=$(PROOF_MINUTES) $(BIN)/pytest -m proof

check: $(VENV)/.installed-test protos-current sdk-current ## format, lint, types, walls, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint

fmt: $(VENV)/.installed-test ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Stubs come from an old grpcio-tools on purpose: what it makes runs with protobuf 6.31.1 up to 7.
protos: $(PROTOC)/.installed ## make the stubs beside the .proto files again
	PATH=$(CURDIR)/$(PROTOC)/bin:$$PATH $(PROTOC)/bin/python -m grpc_tools.protoc -I. --python_out=. \
		--grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/*/v*/*.proto

.PHONY: protos-current sdk-current
protos-current: protos
	@git diff --exit-code --stat -- 'protos/*_pb2*' || { echo 'The stubs differ from the .proto files: commit what `make protos` made.'; exit 1; }

sdk: $(VENV)/.installed-test ## make the blocking SDK from the async one again
	$(BIN)/python -m shardcast.generate
	$(BIN)/ruff format --quiet shardcast/blocking.py

sdk-current: sdk
	@git diff --exit-code --stat -- shardcast/blocking.py || { echo 'The blocking SDK differs: commit what `make sdk` made.'; exit 1; }

bench: $(VENV)/.installed-test ## all benchmarks
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-test ## make the table of errors again
	$(BIN)/python -m tests.support.error_table
