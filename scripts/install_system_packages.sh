#!/usr/bin/env bash
# What a new CI machine lacks for the tests and pip cannot bring: a browser, Prometheus with promtool
# for the alert rules, and a redis-server for what we are measured against. Elsewhere it does nothing:
# tests without a browser or promtool say that they skip.
set -euo pipefail

[ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0

missing=()
for package in chromium prometheus redis-server; do
    command -v "$package" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Installing redis-server or prometheus would start one, which the tests do not want.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
