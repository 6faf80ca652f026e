# Vector instructions come from Go's simd experiment; everything also builds
# and runs without it (make GOEXPERIMENT= …).
export GOEXPERIMENT ?= simd
GO ?= go

.PHONY: build test race demo interop check clean

build: ## the program, at bin/pixpro
	$(GO) build -o bin/pixpro ./tools/pixpro

test: ## all tests; needs nothing but Go
	$(GO) test ./...

race: ## the concurrent packages and the vector code under the race detector, which checks pointers too; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -short ./augment/... ./internal/... ./pipeline/... ./shards/... ./tools/... ./train/...

interop: build ## all that other programs read and write, in Python; installs what it lacks in .venv
	examples/venv.sh .venv
	PIXPRO_PYTHON=$(CURDIR)/.venv/bin/python $(GO) test -count=1 -run TestDocumentedPython ./shards
	.venv/bin/python -B examples/interop.py --pixpro bin/pixpro
	.venv/bin/python -B examples/pytorch/test_interop.py bin/pixpro

demo: build ## everything on a generated dataset, in demo-out/
	rm -rf demo-out
	bin/pixpro demo --out demo-out

check: ## formatting, vet, builds without cgo, with and without vector code, and for other systems
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change the files above"; exit 1; }
	GOEXPERIMENT= $(GO) vet ./...
	GOEXPERIMENT=simd $(GO) vet ./...
	GOEXPERIMENT= CGO_ENABLED=0 $(GO) build ./...
	GOEXPERIMENT=simd CGO_ENABLED=0 $(GO) build ./...
	for system in linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64; do \
		GOEXPERIMENT= CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build ./... || exit; \
	done

clean:
	rm -rf bin demo-out
