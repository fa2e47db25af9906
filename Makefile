# `make demo` and `make test` install everything that they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STACK := .local/venvs/ministack/bin/python infra/local/stack.py
SAM := .local/venvs/sam/bin
export SAM_CLI_TELEMETRY := 0

# Builds what runs on Lambda, for $$ARCHITECTURE, and checks the binaries.
FUNCTIONS := $(patsubst functions/%/Cargo.toml,%,$(wildcard functions/*/Cargo.toml))
LAMBDA_BUILD = PATH="$(CURDIR)/.local/venvs/deploy/bin:$$PATH" cargo lambda build --release --locked --$${ARCHITECTURE/_/-} \
		$(FUNCTIONS:%=--package fn-%) && python3 infra/local/binaries.py $$ARCHITECTURE
DEPLOY := $(SAM)/python infra/local/deploy.py

# The stack of the tests. It is separate from the stack of `make up`.
TEST_LOCAL := $(CURDIR)/.local/test

.PHONY: help setup build up down demo console vendor test torture bench lint audit fmt deploy clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing packages and tools
	@infra/local/setup.sh

build: setup ## build all binaries for this machine
	cargo build --workspace --bins

# With WATCH=true, also a Prometheus with the project's rules.
WATCHING = $(STACK) watch $(if $(filter true,$(WATCH)),prometheus)

up: build ## start the local stack (PARAMS="MaxRetries=1 RetryBaseS=1" WATCH=true)
	@$(if $(filter true,$(WATCH)),infra/local/setup.sh watch)
	@$(STACK) up $(PARAMS)
	@$(WATCHING)

down: ## stop the local stack
	@if [ -d .local/venvs/ministack ]; then $(STACK) down; fi

demo: build ## start the local stack and send webhooks through it
	@$(STACK) up RetryBaseS=1 BreakerResetTimeoutS=5 ParkBaseS=1 ParkCapS=2 $(PARAMS)
	@$(WATCHING)
	@python3 infra/local/demo.py

console: ## print a link that opens the console of the local stack
	@. .local/stack.env && steadhook console

vendor: ## fetch the view library of the console again, in the versions of infra/local/vendor.sh
	@infra/local/vendor.sh

lint: ## check formatting, lints, documentation, templates and the OpenAPI document
	@infra/local/setup.sh tools
	python3 infra/local/circles.py
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	@# Only the sidecar looks for the credentials of a role. The functions are smaller without it.
	@tree=$$(cargo tree --locked --edges normal --prefix none $(FUNCTIONS:%=--package fn-%)); ! grep '^aws-config ' <<< "$$tree"
	@mkdir -p $(FUNCTIONS:%=target/lambda/%)
	AWS_DEFAULT_REGION=eu-central-1 $(SAM)/sam validate
	AWS_DEFAULT_REGION=eu-central-1 $(SAM)/sam validate --lint
	$(SAM)/cfn-lint template.yaml infra/alarms.yaml infra/network.yaml infra/cache.yaml infra/rollback.yaml infra/start-check.yaml \
		infra/token-api.yaml
	$(SAM)/python infra/local/test_templates.py --quiet
	$(SAM)/python infra/local/translate.py check
	.local/venvs/policies/bin/python -W ignore infra/local/policies.py
	.local/venvs/checkov/bin/checkov --config-file infra/checkov.yaml
	.local/venvs/tools/bin/python -m openapi_spec_validator infra/openapi.yaml

test: lint build ## run all lints, then all tests
	@infra/local/setup.sh tests tools
	@export STEADHOOK_LOCAL=$(TEST_LOCAL); \
	trap '$(STACK) down' EXIT; \
	$(STACK) up RetryBaseS=1; \
	$(STACK) watch; \
	STEADHOOK_STACK=$(TEST_LOCAL)/stack.env cargo nextest run --workspace --locked --no-fail-fast

torture: build ## inject faults into a local stack, across an upgrade, and check that nothing is lost (SEED=7)
	@infra/local/setup.sh tests
	@infra/local/former.sh
	other=$(abspath $(OTHER)); [ -n "$$other" ] || [ ! -d .local/former/bin ] || other=$(CURDIR)/.local/former/bin; \
	TORTURE=$(or $(WEBHOOKS),3000) OTHER=$$other cargo nextest run -p tests --locked --test-threads 3 --success-output immediate \
		--no-fail-fast -E 'binary(deployed) & test(/^(torture|events)::/)'

PROFILE ?= release
bench: ## measure the release binaries and compare them with baselines
	@infra/local/setup.sh bench
	cargo build --profile $(PROFILE) --bins --locked -p yardstick $(patsubst functions/%/Cargo.toml,-p fn-%,$(wildcard functions/*/Cargo.toml))
	cargo bench --profile $(if $(filter release,$(PROFILE)),bench,$(PROFILE)) --locked -p tests --bench bench $(if $(ONLY),-- $(ONLY))

fmt: ## format the code
	cargo fmt --all

# Without PARAMS="Architecture=...", a deployed stack keeps its architecture.
deploy: ## build for Lambda and deploy to AWS, after a confirmation (PARAMS="Name=value ...")
	$(if $(filter command,$(origin ARCH)),$(error ARCH is not used. Set PARAMS="Architecture=$(ARCH)"))
	@infra/local/setup.sh deploy
	cargo build --locked --package check
	@$(DEPLOY) check $(PARAMS)
	ARCHITECTURE=$$($(DEPLOY) architecture $(PARAMS)); $(LAMBDA_BUILD)
	@$(DEPLOY) run $(PARAMS)

audit: ## build for Lambda and check that the binaries can start there (PARAMS="Architecture=x86_64")
	@infra/local/setup.sh deploy
	ARCHITECTURE=$(or $(patsubst Architecture=%,%,$(filter Architecture=%,$(PARAMS))),arm64); $(LAMBDA_BUILD)

clean: down ## stop the local stack and remove .local and target
	rm -rf .local target
