# HotSwap. `make help` lists the targets.
SHELL := /bin/bash
GO    ?= go
BIN   := bin/hotswap
ARGS  ?=
export GOFLAGS := -mod=readonly $(filter-out -mod=%,$(GOFLAGS))

.DEFAULT_GOAL := help
.PHONY: help build lambda demo test check bench test-crash test-forge test-forge-attacks test-hosts test-openfaas test-shuffle simulate simulate-postgres fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/hotswap
	@tests/need.sh go
	@$(GO) build -trimpath -o $(BIN) ./cmd/hotswap

lambda: ## build bin/lambda/hotswap-{amd64,arm64}.zip for AWS Lambda, reproducibly, and print their SHA-256
	@tests/need.sh go
	@for arch in amd64 arm64; do $(GO) run ./deploy/lambda/package -arch $$arch -out bin/lambda/hotswap-$$arch.zip || exit 1; done

demo: ## see a commit reach nodes under load; ARGS=--once ends by itself, ARGS="--once --chaos" kills parts
	@echo "hotswap demo  (everything on 127.0.0.1, data in ./.hotswap, nothing leaves this machine)"
	@tests/need.sh go git postgres
	@tests/build.sh $(BIN)
	@exec $(BIN) demo $(ARGS)

test: check ## everything that proves the product, on real servers; installs what is missing

check: ## formatting, vet, staticcheck, tidy, and all tests with the race detector, shuffled
	@tests/need.sh go git postgres cc psql curl prometheus ssh-keygen
	@tests/static.sh
	$(GO) test -race -shuffle=on -timeout 14m ./...
	@$(MAKE) --no-print-directory simulate

test-crash: ## cut every round trip of a release, and catch the mutants (two hours on two cores)
	@tests/need.sh go git postgres
	HOTSWAP_CRASH=full $(GO) test -count=1 -timeout 180m -v ./tests/crash/...

test-forge: ## on a real Gitea, built and started here: what every adapter must do, and a push to production with two people (9 minutes)
	@tests/need.sh go git cc postgres
	HOTSWAP_FORGE=gitea $(GO) test -count=1 -p 1 -timeout 30m -v -run 'TestGitea|TestTheGateOpens/gitea|TestPullRequestsAreChecked/gitea|TestAChangeOnGitea' ./tests/conformance ./tests/attack ./tests/e2e

test-forge-attacks: ## on a real Gitea: every attack, lost and late calls, shuffled histories (half an hour)
	@tests/need.sh go git cc postgres
	HOTSWAP_FORGE=gitea $(GO) test -count=1 -timeout 80m -v -run 'TestEveryWay/gitea|TestAnyCall/gitea|TestShuffled/gitea' ./tests/attack

test-hosts: ## one script on the embedded platform and through Lambda's Runtime API; the audit trails must be equal
	@tests/need.sh go git postgres
	$(GO) test -count=1 -timeout 10m -v -run TestHostsBehaveAlike ./tests/e2e

test-openfaas: ## the same script through a real gateway of OpenFaaS too, built and started here (root; 4 minutes the first time)
	@tests/need.sh go git postgres prometheus unshare
	tests/openfaas/run.sh

test-shuffle: ## 1000 histories whose webhooks are lost, doubled, late and out of order (SHUFFLES=n for another number)
	@tests/need.sh go git postgres
	HOTSWAP_SHUFFLES=$(or $(SHUFFLES),1000) $(GO) test -count=1 -timeout 80m -run Shuffled ./tests/attack/...

simulate: ## play SIM_RELEASES (default 20000) random releases against the real machine
	SIM_RELEASES=$(or $(SIM_RELEASES),20000) $(GO) test -count=1 -timeout 60m -v -run TestManyReleases ./tests/simulation

simulate-postgres: ## play SIM_POSTGRES (default 14) of them on PostgreSQL as well, and compare after each step (minutes)
	@tests/need.sh go postgres
	SIM_POSTGRES=$(or $(SIM_POSTGRES),14) $(GO) test -count=1 -timeout 60m -v -run TestPostgreSQLAgrees ./tests/simulation

bench: ## measure against named peers and limits; writes docs/reference/benchmarks.md
	@tests/need.sh go git postgres
	@tests/bench/run.sh

fuzz: ## run every fuzz target for FUZZTIME (default 20s) each
	@tests/fuzz.sh $(or $(FUZZTIME),20s)
