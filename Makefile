# The commands that must always work on a fresh machine with Go and Debian.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c

.PHONY: test conformance deps bench fuzz lint build golden recordings

# Run every test with the race detector: four packages at once, since the last ones, with
# real programs, wait more than they compute.
test: deps
	go test -race -p 4 -timeout 20m -json work | go run ./internal/conformance $(if $(CI),-ci -check docs/conformance.md)
	cd examples && GOWORK=off go test -race ./...

# The same, and write docs/conformance.md from the outcome.
conformance: deps
	go test -race -p 4 -timeout 20m -json work | go run ./internal/conformance -out docs/conformance.md

# Install what the tests need.
deps:
	@scripts/deps.sh

# The benchmarks, with the comparison. The peers are installed first.
bench:
	@scripts/deps.sh bench
	go test -run '^$$' -bench . -benchmem ./...
	cd server && go test -run '^$$' -bench 'Grants|RawCommit' -benchtime 3000x ./store/sqlite
	cd server && go test -run '^$$' -bench Flows -benchtime 3000x ./test/people
	cd bench && GOWORK=off go run ./cmd/compare
	cd bench/gateway && GOWORK=off go run .

# A short run of each fuzz target; FUZZTIME=10m for a long one.
FUZZTIME ?= 10s
fuzz:
	@scripts/fuzz.sh $(FUZZTIME)

lint:
	gofmt -l $$(git ls-files '*.go') | (! grep .)
	go vet work
	go run $(STATICCHECK) work
	cd examples && GOWORK=off go vet ./... && GOWORK=off go run $(STATICCHECK) ./...

build:
	cd server && go build -o ../bin/certbound ./cmd/certbound

# Write the golden files again; read the diff.
golden:
	go test $$(git grep -l 'flag.Bool("update"' -- '*_test.go' ':!server/test/proxies' | xargs -n 1 dirname | sed 's|^|./|') -update

# Record again what the real proxies send: new certificates, so every file changes.
recordings: deps
	cd server && go test ./test/proxies -update
