#!/usr/bin/env bash
# build.sh OUTPUT : build the program; on a terminal, show how far it is.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
if [ ! -t 1 ]; then
  echo "  build      compiling, about a minute the first time"
  exec go build -trimpath -o "$out" ./cmd/hotswap
fi
printf '  build      compiling, about a minute the first time'
total=$(go list -deps ./cmd/hotswap | wc -l)
go build -v -trimpath -o "$out" ./cmd/hotswap 2>&1 | {
  n=0
  while read -r package; do
    n=$((n + 1))
    printf '\r\033[K  build      compiling, about a minute the first time   [%d/%d] %.60s' "$n" "$total" "$package"
  done
} && printf '\r\033[K  build      %s\n' "$out" || { # once more for the errors, whole
  echo
  exec go build -trimpath -o "$out" ./cmd/hotswap
}
