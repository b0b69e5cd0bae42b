#!/usr/bin/env bash
# Everything that is checked without running: formatting, vet, staticcheck, tidy.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(git ls-files '*.go' | xargs go tool gofumpt -l)
if [ -n "$unformatted" ]; then
  printf 'not formatted; mend with: go tool gofumpt -w .\n%s\n' "$unformatted" >&2
  exit 1
fi
go mod tidy -diff
go vet ./...
go tool staticcheck ./...
for module in tests/bench/peers tests/tools/sam; do (cd "$module" && go vet ./...); done # modules of their own
for tag in mutant_nofence mutant_locallock mutant_ackfirst mutant_auditoutside; do
  go vet -tags "$tag" ./pkg/store ./pkg/engine ./functions/... # the mutants must at least compile
done
echo "static checks passed"
