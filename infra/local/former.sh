#!/usr/bin/env bash
# Builds the version before this one into .local/former/bin, from the history of this repository. Its commit is in the
# changelog. Where the history does not have it, as in a shallow clone, it says so and builds nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

former=$PWD/.local/former
commit=$(sed -n 's/^Commit `\([0-9a-f]*\)`\.$/\1/p' CHANGELOG.md | head -n 1)
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
  echo "The history here does not have $commit, the version before this one. It goes on without."
  rm -rf "$former"
  exit 0
fi
if [ "$(cat "$former/commit" 2>/dev/null)" = "$commit" ]; then
  exit 0
fi
rm -rf "$former"
mkdir -p "$former/source" "$former/bin"
git archive "$commit" | tar -x -C "$former/source"
cargo build --manifest-path "$former/source/Cargo.toml" --target-dir "$former/target" --locked --bins $(
  for function in "$former"/source/functions/*/; do printf -- '-p fn-%s ' "$(basename "$function")"; done
)
for function in "$former"/source/functions/*/; do
  cp "$former/target/debug/$(basename "$function")" "$former/bin/"
done
# Only the binaries are needed from here on.
rm -rf "$former/source" "$former/target"
echo "$commit" > "$former/commit"
