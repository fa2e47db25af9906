# `make demo` and `make test` install everything that they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STACK := .local/venvs/ministack/bin/python infra/local/stack.py
SAM := .local/venvs/sam/bin
export SAM_CLI_TELEMETRY := 0

# The stack of the tests. It is separate from the stack of `make up`.
TEST_LOCAL := $(CURDIR)/.local/test

.PHONY: help setup build up down demo test torture bench lint fmt deploy clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing packages and tools
	@infra/local/setup.sh

build: setup ## build all binaries for this machine
	cargo build --workspace --bins

up: build ## start the local stack (PARAMS="MaxRetries=1 RetryBaseS=1")
	@$(STACK) up $(PARAMS)

down: ## stop the local stack
	@if [ -d .local/venvs/ministack ]; then $(STACK) down; fi

demo: build ## start the local stack and send webhooks through it
	@$(STACK) up RetryBaseS=1 BreakerResetTimeoutS=5 ParkBaseS=1 ParkCapS=2 $(PARAMS)
	@python3 infra/local/demo.py

lint: ## check formatting, lints, documentation, templates and the OpenAPI document
	@infra/local/setup.sh tools
	python3 infra/local/circles.py
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	@mkdir -p $(foreach path,$(wildcard functions/*/Cargo.toml),target/lambda/$(notdir $(patsubst %/,%,$(dir $(path)))))
	AWS_DEFAULT_REGION=eu-central-1 $(SAM)/sam validate
	AWS_DEFAULT_REGION=eu-central-1 $(SAM)/sam validate --lint
	$(SAM)/cfn-lint template.yaml infra/alarms.yaml infra/network.yaml infra/cache.yaml
	.local/venvs/checkov/bin/checkov --config-file infra/checkov.yaml
	.local/venvs/tools/bin/python -m openapi_spec_validator infra/openapi.yaml

test: lint build ## run all lints, then all tests
	@infra/local/setup.sh tests tools
	@export STEADHOOK_LOCAL=$(TEST_LOCAL); \
	trap '$(STACK) down' EXIT; \
	$(STACK) up RetryBaseS=1; \
	STEADHOOK_STACK=$(TEST_LOCAL)/stack.env cargo nextest run --workspace --locked --no-fail-fast

torture: build ## inject faults into a local stack and check that nothing is lost (SEED=7 OTHER=<folder of binaries>)
	@infra/local/setup.sh tests
	TORTURE=$(or $(WEBHOOKS),5000) OTHER=$(abspath $(OTHER)) cargo nextest run -p tests --locked --test-threads 2 --success-output immediate \
		--no-fail-fast -E 'binary(torture)'

PROFILE ?= release
bench: ## measure the release binaries and compare them with baselines
	@infra/local/setup.sh bench
	cargo build --profile $(PROFILE) --bins --locked -p yardstick $(patsubst functions/%/Cargo.toml,-p fn-%,$(wildcard functions/*/Cargo.toml))
	cargo bench --profile $(if $(filter release,$(PROFILE)),bench,$(PROFILE)) --locked -p tests --bench bench $(if $(ONLY),-- $(ONLY))

fmt: ## format the code
	cargo fmt --all

deploy: setup ## build for Lambda and deploy to AWS (asks for confirmation)
	@command -v cargo-lambda >/dev/null 2>&1 || .local/venvs/sam/bin/pip install --quiet cargo-lambda==1.9.2
	PATH="$(CURDIR)/.local/venvs/sam/bin:$$PATH" cargo lambda build --release --$(or $(ARCH),arm64)
	RELEASE=$$( (sha256sum target/lambda/*/bootstrap template.yaml; echo '$(PARAMS)') | sha256sum | cut -c1-64); \
	$(SAM)/sam deploy --parameter-overrides Release=$$RELEASE $(PARAMS)

clean: down ## stop the local stack and remove .local and target
	rm -rf .local target
