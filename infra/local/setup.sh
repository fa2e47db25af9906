#!/usr/bin/env bash
# Installs missing Debian packages, and Python environments below .local/venvs.
# Without arguments: what is needed to build and to run the local stack.
#   tools   also what lints and operators need
#   tests   also cargo-nextest, what the suite of the console needs (Chromium, Node and packages for it), and the
#           libraries of receivers and callers
#   watch   also Prometheus
#   bench   also what benchmarks need
#   deploy  also what builds for Lambda
set -euo pipefail
cd "$(dirname "$0")/../.."

words="$*"
wanted() { case " $words " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
say() { printf '[setup] %s\n' "$*"; }

packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }
need redis-server redis-server
if wanted tools; then
  need jq jq
  need promtool prometheus
  need amtool prometheus-alertmanager
fi
if wanted watch; then
  need prometheus prometheus
fi
if wanted bench; then
  need valgrind valgrind
fi
if wanted tests; then
  need openssl openssl
  need chromium chromium
  need node nodejs
  need npm npm
fi
need cc build-essential
need strip binutils
need python3 python3
need curl curl
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
  sudo=''
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  say "installing ${packages[*]}"
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # Prevent packages from starting their services. The local stack starts its own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
    trap '$sudo rm -f $policy' EXIT
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
  echo 'setup: cargo is missing. Install Rust 1.95 or later with rustup (https://rustup.rs) and try again.' >&2
  exit 1
fi
for tool in fmt clippy; do
  cargo $tool --version >/dev/null 2>&1 || rustup component add rustfmt clippy
done
if wanted tests && ! cargo nextest --version >/dev/null 2>&1; then
  say 'building cargo-nextest (only once, takes some minutes)'
  cargo install --quiet --locked --version 0.9.143 cargo-nextest
fi

# environment <name> <requirements>: creates a virtual environment, or creates it again
# when its requirements change.
environment() {
  local dir=.local/venvs/$1 pins=infra/local/$2
  if cmp -s "$pins" "$dir/pins.txt"; then return; fi
  say "installing $(grep -v '^#' "$pins" | tr '\n' ' ')"
  rm -rf "$dir"
  mkdir -p .local/venvs
  python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check -r "$pins"
  cp "$pins" "$dir/pins.txt"
}
environment ministack requirements.txt
environment sam requirements-sam.txt
if wanted tools; then
  environment tools requirements-tools.txt
  environment checkov requirements-checkov.txt
  environment policies requirements-policies.txt
fi
if wanted tests && ! cmp -s tests/browser/package-lock.json tests/browser/node_modules/.locked; then
  say 'installing the packages of tests/browser'
  (cd tests/browser && npm ci --silent)
  cp tests/browser/package-lock.json tests/browser/node_modules/.locked
fi
if wanted tests; then
  environment clients requirements-clients.txt
fi
if wanted bench; then
  environment bench requirements-bench.txt
fi
if wanted deploy; then
  environment deploy requirements-deploy.txt
fi
say 'ready'
