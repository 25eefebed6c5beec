# Lingyun: a private cloud in one binary. `make up` starts one on this machine, `make test` tests it.

GO    ?= go
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo)
ROOT  := $(CURDIR)
PROOF := $(ROOT)/.cache/proof

# One static binary; and whatever is compiled once serves build, vet and tests.
export CGO_ENABLED := 0

# Beside what the cloud itself needs: PostgreSQL as a second database, a C
# compiler for the race detector, what makes seeds and discs in tests, and
# what looks at networks.
TEST_PACKAGES := postgresql gcc libc6-dev genisoimage openssh-client isolinux \
	tcpdump iputils-ping iputils-arping ethtool curl socat

# Rooms whose tests run under the race detector: where goroutines share state.
# Elsewhere it costs five to ten times the time, most of it in SQLite's code.
RACE := ./internal/workflow/... ./internal/database/... ./internal/action/...
# Rooms whose tests start engines and guests: one after the other, a guest fills a core while it boots.
ENGINES := ./internal/guest/... ./internal/trial/... ./internal/fabric/... ./internal/host/...
CLOUD := ./test/cloud/...

.PHONY: all build packages up down test test-ceph test-long bench generate lint clean

all: build

build:
	@mkdir -p bin
	$(GO) build -o bin/lingyun ./cmd/lingyun

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
	CGO_ENABLED=1 LINGYUN_PROOF=$(PROOF) $(GO) test -count=1 -race $(RACE)
	LINGYUN_PROOF=$(PROOF) $(GO) test -count=1 $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACE) $(ENGINES) $(CLOUD))")
	LINGYUN_PROOF=$(PROOF) $(GO) test -count=1 -p 1 -timeout 20m $(ENGINES)
	LINGYUN_PROOF=$(PROOF) $(GO) test -count=1 -timeout 40m $(CLOUD)
	$(GO) run ./internal/retcode/proof/report -dir $(PROOF) -w

# test-ceph proves disks in a pool on Ceph clusters of its own: half a GB of packages, so no part of `make test`.
test-ceph: build
	$(SUDO) bin/lingyun install $(TEST_PACKAGES) ceph-mon ceph-mgr ceph-osd ceph-common qemu-block-extra
	$(GO) test -count=1 -v -timeout 20m -run 'TestCeph$$' ./internal/host
	$(GO) test -count=1 -v -timeout 20m -run 'TestCephCloud$$' ./test/cloud

# test-long is what a night is for: many kills, and fuzzing.
test-long: packages
	LINGYUN_MONEY_MONTHS=36 $(GO) test -timeout 10h -v -run TestManyMonths ./internal/cloud/ledger
	LINGYUN_CRASH_KILLS=1000 $(GO) test -timeout 10h -v ./test/crash
	$(GO) test -fuzz=FuzzDecode -fuzztime=30m ./internal/action
	$(GO) test -fuzz=FuzzSign -fuzztime=30m ./internal/action

bench: build
	$(GO) run ./bench $(BENCH)

# generate writes what is made from other files: codes from the contract, tables of actions and of the configuration. `make test` writes the table of proven codes.
generate:
	$(GO) generate ./internal/retcode
	LINGYUN_WRITE=1 $(GO) test -count=1 -run 'TestContract|TestConfigurationPage' ./internal/controller ./internal/cloud/catalog

clean:
	rm -rf bin .cache
