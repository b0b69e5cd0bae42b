#!/usr/bin/env bash
# run.sh : every benchmark in ROUNDS interleaved rounds (default 5) of BENCHTIME
# (default 2s) each, then docs/reference/benchmarks.md. A benchmark that fails ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/need.sh nginx unshare
[ "$(id -u)" -eq 0 ] || { echo "the gateway of OpenFaaS listens on all interfaces: run this as root, which gives it a network of its own" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/lines

fact() { echo "# $*" >>"$out"; }
version() { (cd tests/bench/peers && go list -m -f '{{.Version}}' "$1"); }
postgres=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | tail -n 1 || command -v postgres)
nginx=$(command -v nginx || echo /usr/sbin/nginx)
fact "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 2^20 }' /proc/meminfo)"
fact "$("$postgres" --version | sed 's/^postgres (PostgreSQL)/PostgreSQL/; s/ (.*//')"
fact "$("$nginx" -v 2>&1 | sed 's/.*: //')"
fact "River $(version github.com/riverqueue/river)"
fact "DBOS-Go $(version github.com/dbos-inc/dbos-transact-golang)"
fact "load of the machine when this began: $(cut -d' ' -f1 /proc/loadavg)"

mkdir "$work/openfaas"
export HOTSWAP_OPENFAAS=$work/openfaas
ln -s "$(CGO_ENABLED=0 tests/tools/ensure.sh tests/tools/openfaas gateway github.com/openfaas/faas/gateway)" "$work/openfaas/gateway"
fact "OpenFaaS gateway $(cd tests/tools/openfaas && go list -m -f '{{.Version}}' github.com/openfaas/faas/gateway)"
go build -o "$work/warm" ./cmd/hotswap # what a benchmark builds itself needs no network then
go test -c -o "$work/bench.test" ./tests/bench
go test -c -o "$work/swap.test" ./tests/swap
(cd tests/bench/peers && go test -c -o "$work/peers.test" .)
go build -o "$work/report" ./tests/bench/report
go build -o "$work/canary" ./tests/bench/canary

for round in $(seq "${ROUNDS:-5}"); do
  echo "round $round" >&2
  for part in bench swap bench/peers; do
    (cd "tests/$part" && unshare --net bash -c 'ip link set lo up && exec "$@"' run "$work/${part##*/}.test" -test.run '^$' -test.bench . -test.benchtime "${BENCHTIME:-2s}") >"$work/log" 2>&1 ||
      { tail -n 50 "$work/log" >&2; exit 1; }
    grep '^Benchmark' "$work/log" | tee -a "$out" >&2
  done
done
"$work/canary" >"$work/canary.md"
"$work/report" -canary "$work/canary.md" <"$out" >"$work/page.md"
cp "$work/page.md" docs/reference/benchmarks.md
echo "wrote docs/reference/benchmarks.md" >&2
