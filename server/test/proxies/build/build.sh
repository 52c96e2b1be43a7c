#!/usr/bin/env bash
# Builds the real Caddy or Traefik from the Go module proxy, once for each version, and
# prints where the program is: build.sh caddy|traefik
#
# Caddy takes about a minute on two cores and Traefik some minutes, the first time; after
# that both are found in the user's cache.
set -euo pipefail
name=${1:?which program: caddy or traefik}
here=$(cd "$(dirname "$0")" && pwd)/$name
export GOWORK=off CGO_ENABLED=0 GOFLAGS=

case $name in
  caddy) package=github.com/caddyserver/caddy/v2/cmd/caddy ;;
  traefik) package=github.com/traefik/traefik/v3/cmd/traefik ;;
  *) echo "build.sh: expected caddy or traefik, found $name" >&2; exit 2 ;;
esac
version=$(awk -v m="${package%/cmd/*}" '$1 == m || $2 == m { for (i = 1; i <= NF; i++) if ($i ~ /^v[0-9]/) { print $i; exit } }' "$here/go.mod")
key=$( (go env GOVERSION GOOS GOARCH; cd "$here"; cat ../build.sh; find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/certbound/proxies
program=$cache/$name-$version-$key
if [ -x "$program" ]; then
  echo "$program"
  exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9 # another test may be building it
if [ ! -x "$program" ]; then
  echo "building $name $version, once; it will be $program" >&2
  work=$(mktemp -d "$cache/build.XXXXXX")
  trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
  cp -r "$here/." "$work"
  cd "$work"
  if [ "$name" = traefik ]; then
    # lego without its DNS providers (see dns/dns.go). Its checksum is in lego.sum.
    read -r lego sum < lego.sum
    mkdir fetch
    got=$(cd fetch && GOFLAGS=-modcacherw go mod download -json "$lego")
    if ! grep -qF "\"Sum\": \"$sum\"" <<<"$got"; then
      echo "build.sh: $lego: the checksum is not $sum:" "$got" >&2
      exit 1
    fi
    cp -r "$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$got")" lego
    chmod -R u+w lego
    rm -rf fetch lego/providers lego/cmd lego/docs lego/e2e
    mkdir -p lego/providers
    mv dns lego/providers/dns
  fi
  # Each program has its version in a variable of its own.
  flags="-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=${version#v} -X github.com/caddyserver/caddy/v2.CustomVersion=$version"
  go build -trimpath -ldflags "$flags" -o "$work/program" "$package" >&2
  mv "$work/program" "$program"
fi
echo "$program"
