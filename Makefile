# Vector instructions come from Go's simd experiment; everything also builds
# and runs without it (make GOEXPERIMENT= …).
export GOEXPERIMENT ?= simd
GO ?= go
# Debian's, which finds python3-torch; for another: make interop PYTHON=python3
PYTHON ?= /usr/bin/python3

.PHONY: build test race demo interop check clean

build: ## the program, at bin/pixpro
	$(GO) build -o bin/pixpro ./tools/pixpro

test: ## all tests; needs nothing but Go
	$(GO) test ./...

race: ## the concurrent packages under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -short ./shards/... ./pipeline/... ./internal/parallel/... ./internal/synth/... ./train/...

demo: build ## everything on a generated dataset, in demo-out/
	rm -rf demo-out
	bin/pixpro demo --out demo-out

interop: build ## exports and imports against PyTorch; needs python3-torch and python3-torchvision
	$(PYTHON) examples/interop.py --pixpro bin/pixpro

check: ## formatting, vet, builds without cgo, with and without vector code
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change the files above"; exit 1; }
	GOEXPERIMENT= $(GO) vet ./...
	GOEXPERIMENT=simd $(GO) vet ./...
	GOEXPERIMENT= CGO_ENABLED=0 $(GO) build ./...
	GOEXPERIMENT=simd CGO_ENABLED=0 $(GO) build ./...

clean:
	rm -rf bin demo-out
