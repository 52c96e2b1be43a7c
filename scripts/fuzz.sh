#!/usr/bin/env bash
# Runs every fuzz target of every module for the given time each: scripts/fuzz.sh 10s
set -euo pipefail
time=${1:-10s}
for target in $(git grep -lE '^func Fuzz[A-Z]' -- '*_test.go' | xargs -n1 dirname | sort -u); do
  for name in $(git grep -hoE '^func Fuzz[A-Za-z0-9_]+' -- "$target/*_test.go" ":!$target/*/*" | awk '{print $2}' | sort -u); do
    echo "== $target $name"
    go test "./$target" -run '^$' -fuzz "^$name\$" -fuzztime "$time"
  done
done
