#!/usr/bin/env bash
# run.sh : every benchmark in ROUNDS interleaved rounds (default 5), then
# docs/reference/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
go test -c -o "$out.test" ./tests/bench
trap 'rm -f "$out" "$out.test"' EXIT
for round in $(seq "${ROUNDS:-5}"); do
  echo "round $round" >&2
  (cd tests/bench && "$out.test" -test.run '^$' -test.bench . -test.benchtime "${BENCHTIME:-2s}") | grep '^Benchmark' | tee -a "$out" >&2
done
go run ./tests/bench/report <"$out" >docs/reference/benchmarks.md
{ printf '\n## Canary\n\n'; go run ./tests/bench/canary; } >>docs/reference/benchmarks.md
echo "wrote docs/reference/benchmarks.md" >&2
