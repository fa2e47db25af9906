#!/usr/bin/env bash
# Fetches the view library of the console again, for `make vendor`: the minified ES modules of two packages, with their
# licences. Imports by the name of a package become relative ones.
set -euo pipefail
PREACT=11.2.0
HTM=3.1.1
out=$(cd "$(dirname "$0")/../../functions/console/app/vendor" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for package in "preact@$PREACT" "htm@$HTM"; do
  npm pack --silent "$package" >/dev/null
done
mkdir preact htm
tar -xzf "preact-$PREACT.tgz" -C preact --strip-components=1
tar -xzf "htm-$HTM.tgz" -C htm --strip-components=1
take() { sed -e 's|from"preact"|from"./preact.js"|g' -e '/^\/\/# sourceMappingURL=/d' "$1" > "$out/$2"; }
take preact/dist/preact.mjs preact.js
take preact/hooks/dist/hooks.mjs hooks.js
take htm/dist/htm.module.js htm.js
cp preact/LICENSE "$out/LICENSE-preact"
cp htm/LICENSE "$out/LICENSE-htm"
chmod 644 "$out"/*
