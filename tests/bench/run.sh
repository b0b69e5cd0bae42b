#!/usr/bin/env bash
# run.sh : every benchmark in ROUNDS interleaved rounds (default 5), then
# docs/reference/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
tests/need.sh nginx
trap 'rm -f "$out" "$out".*' EXIT
go test -c -o "$out.test" ./tests/bench
go test -c -o "$out.swap" ./tests/swap
(cd tests/bench/peers && go test -c -o "$out.peers" .)
for round in $(seq "${ROUNDS:-5}"); do
  echo "round $round" >&2
  for part in bench:test swap:swap bench/peers:peers; do
    (cd "tests/${part%:*}" && "$out.${part#*:}" -test.run '^$' -test.bench . -test.benchtime "${BENCHTIME:-2s}") | grep '^Benchmark' | tee -a "$out" >&2
  done
done
go run ./tests/bench/report <"$out" >docs/reference/benchmarks.md
{ printf '\n## Canary\n\n'; go run ./tests/bench/canary; } >>docs/reference/benchmarks.md
echo "wrote docs/reference/benchmarks.md" >&2
