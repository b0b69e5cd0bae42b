#!/usr/bin/env bash
# run.sh: what hosts have in common, on a real gateway of OpenFaaS in a network of its own:
# the gateway listens on all interfaces.
set -euo pipefail
cd "$(dirname "$0")/../.."
ensure=tests/tools/ensure.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for tool in github.com/openfaas/faas/gateway github.com/openfaas/nats-queue-worker github.com/nats-io/nats-streaming-server; do
  ln -s "$(CGO_ENABLED=0 $ensure tests/tools/openfaas "$(basename $tool)" $tool)" "$dir/$(basename $tool)"
done
(cd tests/tools/cron && GOWORK=off go build -trimpath -o "$dir/cron" .)
go build -trimpath -o "$dir/provider" ./tests/openfaas/provider
go build -trimpath -o "$dir/hello" ./deploy/demo/hello
go build -trimpath -o "$dir/warm" ./cmd/hotswap # what the tests build themselves needs no network then
go build -trimpath -ldflags '-X main.version=1.4.2' -o "$dir/warm" ./deploy/demo/checkout
go test -c -o "$dir/e2e.test" ./tests/e2e
export HOTSWAP_OPENFAAS=$dir
cd tests/e2e
unshare --net bash -c 'ip link set lo up && exec "$@"' run "$dir/e2e.test" -test.run TestHostsBehaveAlike -test.v -test.timeout 9m "$@"
