#!/usr/bin/env bash
# Builds the program for five systems, without symbols and paths of this
# machine, and packs it with its licence: bin/release/pixpro-VERSION-OS-ARCH,
# and SHA256SUMS. The same sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
version=$(sed -n 's/^const Number = "\(.*\)"$/\1/p' internal/version/version.go)
out=bin/release
rm -rf "$out"
mkdir -p "$out"
when=$(git log -1 --format=%ct 2>/dev/null || echo 0)
for system in linux/amd64 linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64; do
  os=${system%/*} arch=${system#*/}
  name=pixpro-$version-$os-$arch program=pixpro simd=
  if [ "$os" = windows ]; then program=pixpro.exe; fi
  if [ "$arch" = amd64 ]; then simd=simd; fi # vector code
  mkdir "$out/$name"
  CGO_ENABLED=0 GOEXPERIMENT=$simd GOOS=$os GOARCH=$arch "$go" build -trimpath -ldflags "-s -w" -o "$out/$name/$program" ./tools/pixpro
  cp LICENSE README.md CHANGELOG.md "$out/$name"
  tar --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner -C "$out" -cf - "$name" | gzip -n9 >"$out/$name.tar.gz"
  rm -r "${out:?}/$name"
done
(cd "$out" && sha256sum -- *.tar.gz | tee SHA256SUMS)
