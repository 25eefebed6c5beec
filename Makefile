# Lingyun: a private cloud in one binary. `make up` starts one on this machine, `make test` tests it.

GO    ?= go
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo)
ROOT  := $(CURDIR)
PROOF := $(ROOT)/.cache/proof

# Beside what the cloud itself needs: PostgreSQL as a second database, a C
# compiler for the race detector, and what makes seeds in the guest's own tests.
TEST_PACKAGES := postgresql gcc libc6-dev genisoimage openssh-client

# Rooms whose tests run under the race detector: where goroutines share state.
# Elsewhere it costs five to ten times the time, most of it in SQLite's code.
RACE := ./internal/workflow/... ./internal/database/... ./internal/action/...
# Rooms whose tests start engines and guests: one after the other, a guest fills a core while it boots.
ENGINES := ./internal/guest/... ./internal/trial/... ./internal/fabric/... ./internal/host/...
CLOUD := ./test/cloud/...

.PHONY: all build packages up down test test-long bench generate lint clean

all: build

build:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/lingyun ./cmd/lingyun

# up starts a whole cloud on this machine; a second time changes nothing. UP="--hosts 2" and the like are passed on.
up: build
	@$(SUDO) bin/lingyun up $(UP)

# down stops it; `make down PURGE=1` deletes its data too.
down: build
	@$(SUDO) bin/lingyun down $(if $(PURGE),--purge)

packages: build
	$(SUDO) bin/lingyun install $(TEST_PACKAGES)

lint:
	@unformatted=$$(gofmt -l bench cmd internal test); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...

# The engines' tests need root (namespaces, guests); without it they are skipped.
test: packages lint
	@rm -rf $(PROOF) && mkdir -p $(PROOF)
	LINGYUN_PROOF=$(PROOF) $(GO) test -race $(RACE)
	LINGYUN_PROOF=$(PROOF) $(GO) test $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACE) $(ENGINES) $(CLOUD))")
	LINGYUN_PROOF=$(PROOF) $(GO) test -p 1 -timeout 15m $(ENGINES)
	LINGYUN_PROOF=$(PROOF) $(GO) test -timeout 20m $(CLOUD)
	$(GO) run ./internal/retcode/proof/report -dir $(PROOF)

# test-long is what a night is for: many kills, and fuzzing.
test-long: packages
	LINGYUN_CRASH_KILLS=1000 $(GO) test -timeout 10h -v ./test/crash
	$(GO) test -fuzz=FuzzDecode -fuzztime=30m ./internal/action
	$(GO) test -fuzz=FuzzSign -fuzztime=30m ./internal/action

bench: build
	$(GO) run ./bench $(BENCH)

# generate writes what is made from other files: codes from the contract, and after `make test` the table of proven codes.
generate:
	$(GO) generate ./internal/retcode
	@test ! -d $(PROOF) || $(GO) run ./internal/retcode/proof/report -dir $(PROOF) -w

clean:
	rm -rf bin .cache
