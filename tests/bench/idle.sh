#!/usr/bin/env bash
# idle.sh: what `hotswap serve` costs when nothing happens: resident memory of its process and
# of the functions' that run, and CPU time of both, over SECONDS_IDLE (default 180) after a
# minute. PostgreSQL is not counted.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
go build -trimpath -o "$work/hotswap" ./cmd/hotswap
"$work/hotswap" serve --data "$work/data" --listen 127.0.0.1:20170 >"$work/out" 2>"$work/err" &
serve=$!
trap 'kill $serve; wait $serve || true; rm -rf "$work"' EXIT
until [ -e "$work/data/serve.json" ]; do sleep 0.1; kill -0 $serve; done

functions() { pgrep -P $serve -f ' function ' || true; }
ticks() { # of the server, and of functions that have ended or run
  local total
  total=$(awk '{ print $14 + $15 }' /proc/$serve/stat)
  for pid in $serve $(functions); do
    if [ "$pid" = $serve ]; then total=$((total + $(awk '{ print $16 + $17 }' /proc/$pid/stat)))
    else total=$((total + $(awk '{ print $14 + $15 }' /proc/"$pid"/stat))); fi
  done
  echo "$total"
}
rss() { awk '/VmRSS/ { print $2 }' /proc/"$1"/status; }

sleep 60
span=${SECONDS_IDLE:-180} before=$(ticks) running=0 looks=0
for _ in $(seq "$span"); do
  sleep 1
  running=$((running + $(functions | wc -l))) looks=$((looks + 1))
done
after=$(ticks)
echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(date -u +%F)"
awk -v t=$((after - before)) -v s="$span" -v hz="$(getconf CLK_TCK)" -v r="$(rss $serve)" -v n="$running" -v l="$looks" \
  'BEGIN { printf "server %.1f MiB resident; server and functions %.3f %% of one core over %d s; %.2f functions running on average\n", r / 1024, 100 * t / hz / s, s, n / l }'
