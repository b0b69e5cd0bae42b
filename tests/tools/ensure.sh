#!/usr/bin/env bash
# ensure.sh DIR NAME PACKAGE [go build flags…] : build a pinned test server from
# the module in DIR, once for each (Go, flags, pins), and print the binary's path.
# The binaries lie in $HOTSWAP_TOOLS_CACHE, by default in the user's cache folder;
# of each name the two newest are kept. DIR is a module of its own, because the
# graphs of servers conflict with each other and with the product's.
set -euo pipefail
dir=$1 name=$2 package=$3
shift 3
cache=${HOTSWAP_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hotswap-tools}
mkdir -p "$cache"
pins() { go version; printf '%s\n' "$package" "$@" "${CGO_ENABLED:-}"; cat "$dir/go.mod" "$dir/go.sum"; }
binary=$cache/$name-$(pins "$@" | sha256sum | cut -c1-16)

if [ ! -x "$binary" ]; then
  exec 9>"$cache/$name.lock"
  flock 9
  if [ ! -x "$binary" ]; then
    echo "building $name; this takes some minutes, once" >&2
    (cd "$dir" && GOFLAGS='-buildvcs=false -mod=readonly' GOWORK=off nice -n 10 \
      go build -trimpath -ldflags '-s -w' "$@" -o "$binary.tmp$$" "$package") >&2
    mv "$binary.tmp$$" "$binary"
    find "$cache" -maxdepth 1 -type f -name "$name-*" -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- | xargs -r rm -f
  fi
fi
echo "$binary"
