# Vector instructions come from Go's simd experiment; everything also builds
# and runs without it (make GOEXPERIMENT= …).
export GOEXPERIMENT ?= simd
GO ?= go

.PHONY: build test race fuzz examples demo interop check release cuda cuda-test cuda-check gpu-pack gpu-verify metamorphic soak clean

build: ## the program, at bin/pixpro
	$(GO) build -o bin/pixpro ./tools/pixpro

test: ## all tests; needs nothing but Go
	$(GO) test ./...

race: ## the concurrent packages and the vector code under the race detector, which checks pointers too; needs a C compiler; power cuts are replayed by one goroutine
	CGO_ENABLED=1 $(GO) test -race -short -skip '^TestPowerCuts$$' ./augment/... ./internal/... ./pipeline/... ./shards/... ./tools/pixpro ./tools/soak ./train/...

COUNT ?= 1000
fuzz: ## every fuzz target on its seeds and COUNT inputs made of them
	@for file in $$(grep -rl '^func Fuzz' --include=*_test.go .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$file); do \
			$(GO) test -run='^$$' -fuzz="^$$name$$" -fuzztime=$(COUNT)x $$(dirname $$file) || exit; \
		done; \
	done

examples: ## the modules in examples/, which use PixPro as others do
	cd examples/augment && $(GO) vet ./...
	cd examples/train && $(GO) vet ./... && out=$$(mktemp -d) && $(GO) run . $$out && test -s $$out/backbone.safetensors && rm -r $$out

metamorphic: ## COUNT random sequences of stops, kills, damage and resumptions; SEED=… repeats those of a failure
	PIXPRO_METAMORPHIC=$(COUNT) PIXPRO_METAMORPHIC_SEED=$(SEED) $(GO) test -count=1 -timeout=0 -v -run=TestMetamorphic ./tools/pixpro

MINUTES ?= 10
soak: ## streams, training and evaluation for MINUTES; fails on a trend; curves in bin/soak
	$(GO) build -o bin/soak/soak ./tools/soak
	bin/soak/soak -minutes $(MINUTES) -out bin/soak

interop: build ## all that other programs read and write, in Python; installs what it lacks in .venv
	examples/venv.sh .venv
	PIXPRO_PYTHON=$(CURDIR)/.venv/bin/python $(GO) test -count=1 -run TestDocumentedPython ./shards
	.venv/bin/python -B examples/interop.py --pixpro bin/pixpro
	.venv/bin/python -B examples/pytorch/test_interop.py bin/pixpro

demo: build ## everything on a generated dataset, in demo-out/
	rm -rf demo-out
	bin/pixpro demo --out demo-out

check: ## formatting, vet, staticcheck, builds without cgo, with and without vector code, for other systems, and without CUDA
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change the files above"; exit 1; }
	GOEXPERIMENT= $(GO) vet ./...
	GOEXPERIMENT=simd $(GO) vet ./...
	GOEXPERIMENT=simd $(GO) tool -modfile=tools/lint/go.mod staticcheck ./...
	GOEXPERIMENT= CGO_ENABLED=0 $(GO) build ./...
	GOEXPERIMENT=simd CGO_ENABLED=0 $(GO) build ./...
	for system in linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64; do \
		GOEXPERIMENT= CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build ./... || exit; \
	done
	@packages=$$($(GO) list -deps ./...) || exit 1; \
	if echo "$$packages" | grep '^gorgonia.org/cu'; then echo "a build without the tag cuda imports the packages above"; exit 1; fi

release: ## archives of the program for five systems, and their checksums, in bin/release
	GO=$(GO) tools/release.sh

cuda: ## bin/pixpro-cuda, the same commands for NVIDIA cards; with the cuda.h of CUDA_HOME, or a fetched one
	flags=$$(tools/cuda/flags.sh) && eval "$$flags" && $(GO) build -tags cuda,netgo,osusergo -o bin/pixpro-cuda ./tools/pixpro

cuda-test: ## the CUDA device's tests on the software device; needs g++, no card
	GO=$(GO) tools/cuda/test.sh

cuda-check: ## compiles the kernels by three releases of NVRTC; WRITE=1 writes the table in docs/cuda.md
	compilers=$$(tools/cuda/fetch.sh compilers) && CGO_ENABLED=0 $(GO) run ./tools/cuda/check -compilers $$compilers $(if $(WRITE),-write)

gpu-pack: ## bin/gpu-pack.tar.gz: all that verifies a card on a machine without Go, compilers and network
	GO=$(GO) tools/cuda/pack.sh

gpu-verify: gpu-pack ## what to run first on a machine with a card, for MINUTES; report in bin/gpu-verify
	bin/gpu-pack/verify.sh --minutes $(MINUTES) --out bin/gpu-verify

clean:
	rm -rf bin demo-out
