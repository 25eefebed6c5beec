# The commands of this project. `make up` and `make test` are the two that matter.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := build

MODULE  := github.com/lingyun-cloud/lingyun
PROOF   := $(CURDIR)/.cache/proof
# Rooms that start real engines: one at a time, and not beside anything else.
REAL    := ./internal/fabric ./internal/host ./internal/trial ./internal/guest ./test/cloud
# Rooms whose races matter most, and which are quick enough to be run with the detector.
RACED   := ./internal/workflow/... ./internal/database/... ./internal/action ./internal/simulate ./internal/clock
KILLED  := ./test/crash
# What the tests need beside what the cloud itself is made of.
TESTPKG := postgresql tcpdump iputils-ping iputils-arping curl ethtool socat iperf3 openssl e2fsprogs

.PHONY: build up down test test-long bench generate lint packages

build: ## bin/lingyun
	go build -trimpath -o bin/lingyun ./cmd/lingyun

up: build ## a whole cloud on this machine, with a first virtual machine
	bin/lingyun up $(UPFLAGS)

down: build ## stop it; PURGE=1 deletes its data too
	bin/lingyun down $(if $(PURGE),--purge)

packages: build
	bin/lingyun install $(TESTPKG)

lint:
	@test -z "$$(gofmt -l bench cmd internal test)" || { echo "not formatted:"; gofmt -l bench cmd internal test; exit 1; }
	go vet ./...

test: packages lint ## every test; needs root, 2 cores, about half an hour
	rm -rf $(PROOF) && mkdir -p $(PROOF)
	LINGYUN_PROOF=$(PROOF) go test -count=1 -timeout 15m -race $(RACED)
	LINGYUN_PROOF=$(PROOF) go test -count=1 -timeout 20m $$(go list ./... | grep -vxF -f <(go list $(REAL) $(RACED) $(KILLED)))
	LINGYUN_PROOF=$(PROOF) go test -count=1 -timeout 15m $(KILLED)
	LINGYUN_PROOF=$(PROOF) go test -count=1 -timeout 40m -p 1 $(REAL)
	go run ./internal/retcode/proof/report -dir $(PROOF)

test-long: packages ## what takes hours: 1,000 kills
	LINGYUN_CRASH_KILLS=1000 go test -count=1 -timeout 6h $(KILLED)

bench: build ## one line a figure; BENCHFLAGS=-json for machines
	go run ./bench -server bin/lingyun $(BENCHFLAGS)

generate: ## code and tables that are made from others; docs/status-codes.md from the last `make test`
	go generate ./...
	LINGYUN_WRITE=1 go test -count=1 -run 'TestContract' ./internal/controller
	go run ./internal/retcode/proof/report -dir $(PROOF) -w
