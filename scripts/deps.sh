#!/usr/bin/env bash
# Installs what the tests (and with the argument "bench" the benchmarks) need from
# Debian's packages. It does nothing where everything is there.
set -euo pipefail

want=()
need() { command -v "$1" >/dev/null 2>&1 || want+=("$2"); }
need gcc gcc      # the race detector
need curl curl    # the printed curl lines are run
need openssl openssl
if [ "${1:-}" = bench ]; then
  need npm npm
fi
[ ${#want[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
  echo "the tests need these packages; install them first: ${want[*]}" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
