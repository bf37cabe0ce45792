# The modules of go.work, and what is run in each.
PACKAGES := ./... ./examples/... ./benchmarks/... ./internal/tools/...

# make test RACE=1 runs the tests under the race detector.
RACE ?=
# Most of what takes long waits: for failovers, leases, servers that start.
GOTEST = go test $(if $(RACE),-race) -timeout 10m -parallel 6

.PHONY: help
help: ## print this
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## worker processes that share Redis: stale reads with and without invalidation
	go run ./examples/workers

# hybrid has the tests that wait for other processes, and is run by itself: beside others
# they may wait too long. The last tests read files of another module, of whose changes
# go's cache does not know.
.PHONY: test
test: redis-server python-redis ## all tests, on a real redis-server (installed where it can be)
	@if command -v redis-server >/dev/null; then \
		$(GOTEST) $$(go list $(PACKAGES) | grep -v '/hybrid$$'); others=$$?; \
		$(GOTEST) ./hybrid && [ $$others = 0 ] && \
		go test -count=1 -run '^TestList|^TestEvery' ./internal/tools/mutants; \
	else \
		echo "no redis-server: the tests that need one are skipped, and listed below"; \
		$(GOTEST) -v $(PACKAGES) >.test.log 2>&1; code=$$?; \
		grep -E '^(ok|FAIL|---? FAIL|panic)|--- SKIP' .test.log; rm -f .test.log; exit $$code; \
	fi

.PHONY: test-386
test-386: redis-server ## the library's tests where an int has 32 bits
	@if GOARCH=386 go test -run '^$$' ./internal/counter >/dev/null 2>&1; then \
		GOARCH=386 $(GOTEST) ./...; \
	else \
		echo "this machine runs no 386 programs, or the code does not compile for it: compiled and vetted only"; \
		GOARCH=386 go vet ./...; \
	fi

.PHONY: redis-server
redis-server: ## install redis-server, unless it is there
	@command -v redis-server >/dev/null && exit 0; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	elif command -v apt-get >/dev/null && command -v sudo >/dev/null && sudo -n true 2>/dev/null; then \
		sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	elif command -v brew >/dev/null; then \
		brew install -q redis; \
	fi; \
	command -v redis-server >/dev/null || { \
		echo "redis-server is not installed, and cannot be from here."; \
		echo "Install it by hand: apt-get install redis-server, brew install redis, or see redis.io/docs/install."; \
	}

# One test has a Python process share keys and values; without it, it is skipped.
.PHONY: python-redis
python-redis:
	@/usr/bin/python3 -c 'import redis' 2>/dev/null || { \
		command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-redis >/dev/null; \
	} || echo "no python3 with the module redis: TestPythonProcessSharesKeysAndValues is skipped"

.PHONY: model
model: spin ## explore the rules of coherence: each defence taken out has its counterexample
	@docs/model/run

.PHONY: model-all
model-all: spin ## the same, every variant (11 minutes)
	@docs/model/run -all

.PHONY: spin
spin:
	@command -v spin >/dev/null && command -v gcc >/dev/null && exit 0; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends spin gcc libc6-dev >/dev/null; \
	elif command -v apt-get >/dev/null && command -v sudo >/dev/null && sudo -n true 2>/dev/null; then \
		sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends spin gcc libc6-dev >/dev/null; \
	elif command -v brew >/dev/null; then \
		brew install -q spin; \
	fi; \
	command -v spin >/dev/null && command -v gcc >/dev/null || { \
		echo "spin and gcc are not both installed, and cannot be from here."; \
		echo "Install them by hand: apt-get install spin gcc libc6-dev, or see spinroot.com."; \
		exit 1; \
	}

.PHONY: lint
lint: ## gofmt, go vet and staticcheck, in every module
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet $(PACKAGES)
	go tool staticcheck $(PACKAGES)

.PHONY: hazards
hazards: redis-server ## the named hazard tests, 20 times under the race detector
	go test -race -count=20 -timeout 90m -parallel 6 -run '^TestH[0-9]+_' ./hybrid ./invalidate ./internal/flights

.PHONY: mutants
mutants: redis-server ## take one defence at a time out of the code: its named test has to fail; RUN=H12 for some
	@go run ./internal/tools/mutants $(if $(RUN),-run '$(RUN)')

.PHONY: stress
stress: redis-server ## a random fleet for 8 minutes, a million operations: at each pause every tier equals Redis
	FLIPCACHE_STRESS=8m go test -v -timeout 30m -run '^TestRandomizedFleet$$/^(pubsub|tracking)' ./hybrid

.PHONY: check-history
check-history: redis-server ## real processes under faults write down what they did, and it is judged: 2,000,000 operations (11 minutes)
	go run ./internal/history/cmd -all $(HISTORYFLAGS)

.PHONY: simulate
simulate: ## the protocol step by step, then whole processes in virtual time, against a Redis that fails: STEPS=10000000 EPISODES=400 (2 minutes), SEED= to replay
	go test -count=1 -v -timeout 60m -run '^TestSimulation$$' ./invalidate -sim.seed=$(or $(SEED),0) -sim.steps=$(or $(STEPS),10000000)
	go test -count=1 -v -timeout 60m -run '^TestProcessesInVirtualTime$$' ./internal/virtual -virtual.seed=$(or $(SEED),0) -virtual.episodes=$(or $(EPISODES),400)

.PHONY: simulate-defences
simulate-defences: ## the same with one defence after the other taken out: each must be missed (10 minutes)
	go test -count=1 -v -timeout 60m -run '^TestSimulationMissesEachDefence$$' ./invalidate -sim.removed

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10s, and 1,000 random runs of the cache beside a plain map (7 minutes)
	@grep -rno --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file _ name; do \
		name=$${name#func }; echo "$${file%/*} $$name"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(or $(FUZZTIME),10s) "$${file%/*}" >.fuzz.log 2>&1; code=$$?; \
		if [ $$code != 0 ]; then cat .fuzz.log; else grep elapsed .fuzz.log | tail -n 1; fi; \
		rm -f .fuzz.log; [ $$code = 0 ] || exit 1; \
	done
	go test -count=1 -timeout 20m -run '^TestCacheIsAMap$$' ./hybrid -rapid.checks=1000

.PHONY: bench
bench: redis-server ## the figures side by side, by benchstat; report in benchmarks/results
	go run ./benchmarks/cmd/bench $(BENCHFLAGS)

.PHONY: bench-fanout
bench-fanout: redis-server ## what a write costs the server, by how many processes listen; report in benchmarks/results
	go run ./benchmarks/cmd/fanout $(BENCHFLAGS)

.PHONY: bench-peers
bench-peers: redis-server ## hits, misses, writes, eviction and memory beside other caches (12 minutes); report in benchmarks/results
	go run ./benchmarks/cmd/peers $(BENCHFLAGS)

.PHONY: bench-hitratio
bench-hitratio: ## hit ratios beside other caches, or of TRACE=path (3 minutes); report in benchmarks/results
	go run ./benchmarks/cmd/hitratio $(if $(TRACE),-trace "$(TRACE)") $(BENCHFLAGS)

.PHONY: bench-coherence
bench-coherence: redis-server ## stale reads of this library and of its peers, with faults and without (12 minutes); report in benchmarks/results
	go run ./benchmarks/cmd/coherence $(BENCHFLAGS)

# Of all modes together.
MINUTES ?= 30

.PHONY: soak
soak: redis-server ## a fleet under faults for MINUTES=30: memory, goroutines and files flat, no promise broken; report in benchmarks/results
	go run ./benchmarks/cmd/soak -minutes $(MINUTES) $(SOAKFLAGS)
