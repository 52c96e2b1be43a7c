#!/usr/bin/env bash
# Installs the npm package openid-client, an independent client, once for each lock file, and
# prints the folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/certbound/openid-client
folder=$cache/$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-12)
if [ ! -d "$folder/node_modules/openid-client" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9 # another test may be installing it
  if [ ! -d "$folder/node_modules/openid-client" ]; then
    work=$(mktemp -d "$cache/install.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cp "$here/package.json" "$here/package-lock.json" "$work"
    (cd "$work" && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error >&2)
    chmod 755 "$work"
    rm -rf "$folder"
    mv "$work" "$folder"
    trap - EXIT
  fi
fi
echo "$folder"
