# What a person does with this checkout. `make` alone says what there is.

GO       ?= go
BIN      := bin
PROGRAMS := cordon-resolver cordon-auditor cordon-authority cordon-oversight cordon-stoppage cordon-demo
DATA     ?= demo-data
FUZZTIME ?= 5s
BENCHCOUNT ?= 1
BENCHPKGS  ?= ./...
BENCHFLAGS ?=
REPLAYFLAGS ?=
TOOL     := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help build demo test race lint fmt vuln fuzz bench bench-peers replay figures differential memory flood go deps-test clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

go:
	@command -v $(GO) >/dev/null 2>&1 || { \
	  echo "cordon needs Go 1.26 or newer, and there is no 'go' on the PATH."; \
	  echo "Get it from https://go.dev/dl/ (unpack to /usr/local and add /usr/local/go/bin to PATH),"; \
	  echo "or, on Debian or Ubuntu: apt-get install golang-1.26 (see 'apt-cache search golang-1')."; \
	  exit 1; }

build: go ## the six programs, into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ $(addprefix ./cmd/,$(PROGRAMS))

demo: build ## everything at once on loopback, with lines to paste; DATA=DIR keeps it elsewhere
	$(BIN)/cordon-demo --data $(DATA) $(DEMOFLAGS)

# Suites that run the built programs: their results must not come from the cache,
# which does not know what the programs are made of.
RUNNING := cordon/test/e2e cordon/test/demo cordon/test/fleet

test: go deps-test build ## unit, race, scenarios, end to end with the real programs (under 10 minutes)
	$(GO) vet ./...
	$(GO) test -race -timeout 9m $$($(GO) list ./... | grep -v -x $(addprefix -e ,$(RUNNING)))
	CORDON_BIN=$(CURDIR)/$(BIN) $(GO) test -race -count=1 -timeout 9m $(RUNNING)

race: test ## the same: the tests always run under the race detector

lint: go ## formatting and staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi
	$(TOOL) staticcheck ./...

fmt: go ## format the code
	gofmt -w $$(git ls-files '*.go')

vuln: go ## known vulnerabilities in what is used (needs the database's host)
	$(TOOL) govulncheck ./...

fuzz: go ## each fuzz target for FUZZTIME
	@sh test/fuzz.sh $(FUZZTIME)

bench: go ## all benchmarks, with allocations; BENCHCOUNT=10 and two runs make input for `go tool benchstat`
	$(GO) test -run '^$$' -bench . -benchmem -count $(BENCHCOUNT) $(BENCHPKGS)

bench-peers: go ## CPU per answer beside Unbound, BIND, PowerDNS and Knot Resolver; BENCHFLAGS="-rounds 2 -servers cordon,unbound"
	@sh test/deps.sh nsd dnsperf unbound bind9 pdns-recursor knot-resolver
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) build -o $(BIN)/bench-tool ./test/bench
	$(BIN)/bench-tool -v -out $(BIN)/bench $(BENCHFLAGS)

replay: go ## the most clients over TCP, DoT, DoH and DoQ, beside Unbound; REPLAYFLAGS="-transports dot -start 4000"
	@sh test/deps.sh nsd unbound
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) build -o $(BIN)/replay-tool ./test/replay
	$(BIN)/replay-tool -out $(BIN)/replay $(REPLAYFLAGS)

FIGURES ?= $(BIN)/figures
figures: go ## every figure beside other resolvers, about an hour on a quiet machine; FIGURES=DIR is for the tables
	@sh test/deps.sh nsd dnsperf unbound bind9 pdns-recursor knot-resolver
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) build -o $(BIN)/bench-tool ./test/bench
	$(GO) build -o $(BIN)/replay-tool ./test/replay
	-$(BIN)/bench-tool -cases all -time 1s -out $(FIGURES)/bench $(BENCHFLAGS)
	-$(BIN)/replay-tool -warm 6s -time 8s -out $(FIGURES)/replay $(REPLAYFLAGS)
	@echo "tables: $(FIGURES)/bench/table.md $(FIGURES)/replay/table.md"

differential: go ## the same questions to cordon, Unbound and BIND: differences with a verdict; DIFFFLAGS="-questions 20000 -seed 2 -v"
	@sh test/deps.sh nsd unbound bind9
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) run ./test/differential $(DIFFFLAGS)

memory: go ## a million cached RRsets: bytes and CPU beside Unbound; MEMORYFLAGS="-signed -names 200000"
	@sh test/deps.sh dnsperf unbound
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) run ./test/memory million $(MEMORYFLAGS)

flood: go ## ten minutes of random names: memory, and whether known names are answered; FLOODFLAGS="-for 1m"
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/cordon-resolver
	$(GO) run ./test/memory flood $(FLOODFLAGS)

# What the tests need besides Go: NSD as the authoritative servers of the
# laboratory and, with BIND, as primaries of feeds; dig, kdig, dnsperf and curl as clients, dnsdist as a load balancer;
# the four resolvers that enforce the list as a policy zone.
DEPS_TEST := nsd bind9 bind9-dnsutils knot-dnsutils dnsperf dnsdist curl strace unbound pdns-recursor knot-resolver
deps-test:
	@sh test/deps.sh $(DEPS_TEST)

clean: ## remove what was built
	rm -rf $(BIN)
