#!/usr/bin/env bash
# need.sh TOOL… : make sure that what a target needs is there. What Debian has
# is installed when we may; otherwise the one line that installs it is printed.
set -euo pipefail

have() {
  case $1 in
    go)       command -v go >/dev/null ;;
    git)      command -v git >/dev/null && [ -x "$(git --exec-path)/git-http-backend" ] ;;
    postgres) command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    psql)     command -v psql >/dev/null ;;
    curl)     command -v curl >/dev/null ;;
    prometheus) command -v prometheus >/dev/null ;;
    ssh-keygen) command -v ssh-keygen >/dev/null ;;
    unshare)  command -v unshare >/dev/null && command -v ip >/dev/null ;;
    nginx)    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] ;;
    cc)       command -v gcc >/dev/null || command -v cc >/dev/null ;;
    *)        echo "need.sh: unknown tool $1" >&2; exit 2 ;;
  esac
}

package() {
  case $1 in
    git) echo git ;;
    postgres) echo postgresql ;;
    psql) echo postgresql-client ;;
    curl) echo curl ;;
    prometheus) echo prometheus ;;
    ssh-keygen) echo openssh-client ;;
    unshare) echo 'util-linux iproute2' ;;
    nginx) echo nginx-light ;;
    cc) echo 'gcc libc6-dev' ;; # the race detector links with C
  esac
}

missing=()
for tool in "$@"; do have "$tool" || missing+=("$tool"); done
[ ${#missing[@]} -gt 0 ] || exit 0

if [[ " ${missing[*]} " == *" go "* ]]; then
  echo "Go 1.26 or later is missing: https://go.dev/doc/install" >&2
  exit 1
fi
packages=$(for tool in "${missing[@]}"; do package "$tool"; done)
packages=${packages//$'\n'/ }
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing $packages" >&2
  # Servers must not start by themselves: we start our own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap 'rm -f $policy' EXIT; fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >/dev/null
else
  echo "missing: ${missing[*]}; install with: sudo apt-get install -y $packages" >&2
  exit 1
fi
for tool in "${missing[@]}"; do
  have "$tool" || { echo "need.sh: $tool is still missing after installing $packages" >&2; exit 1; }
done
