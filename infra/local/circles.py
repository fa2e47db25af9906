"""Fails when files of one crate import each other in a circle.

Reads the `use` lines and the `crate::` and `super::` paths of every crate below
`shared`, `functions` and `infra`. Code in `#[cfg(test)]` does not count.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRATES = [*ROOT.glob("shared/*/src"), *ROOT.glob("functions/*/src"), *ROOT.glob("infra/*/src")]


def module_of(file: Path, src: Path) -> tuple[str, ...]:
    """The module that a file is: `redis/query.rs` is `redis::query`."""
    parts = file.relative_to(src).with_suffix("").parts
    return () if parts in (("lib",), ("main",)) else parts


def leaves(tree: str) -> list[str]:
    """The paths of a use tree: `a::{b, c::{d}}` is `a::b` and `a::c::d`."""
    head, brace, rest = tree.partition("{")
    if not brace:
        return [tree.split(" as ")[0].strip()]
    paths, depth, start = [], 0, 0
    inner = rest[: rest.rindex("}")]
    for i, c in enumerate(inner + ","):
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            if inner[start:i].strip():
                paths += [head + leaf for leaf in leaves(inner[start:i].strip())]
            start = i + 1
    return paths


def paths_in(text: str) -> list[str]:
    """Every path into its own crate that a file names."""
    text = re.sub(r"#\[cfg\(test\)\]\s*mod tests \{.*", "", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    found = [leaf for tree in re.findall(r"\buse ((?:crate|super|self)::[^;]+);", text) for leaf in leaves(tree)]
    # Modules beside lib.rs may be named without `crate::`.
    found += [f"self::{leaf}" for tree in re.findall(r"^(?:pub )?use (?!crate|super|self)([^;]+);", text, re.M) for leaf in leaves(tree)]
    return found + re.findall(r"\b(?:crate|super)(?:::\w+)+", text)


def imports(src: Path) -> dict[Path, set[Path]]:
    """Which file of a crate imports which."""
    files = {module_of(file, src): file for file in sorted(src.rglob("*.rs")) if file.name != "main.rs"}
    graph = {}
    for module, file in files.items():
        graph[file] = set()
        for path in paths_in(file.read_text()):
            first, *rest = path.split("::")
            at = list(module)
            if first == "crate":
                at = []
            elif first == "super":
                at = at[:-1]
                while rest and rest[0] == "super":
                    at, rest = at[:-1], rest[1:]
            while rest and (*at, rest[0]) in files:
                at.append(rest.pop(0))
            target = files.get(tuple(at))
            # A path that ends at a module names it; `self::` alone does not.
            if target and target != file:
                graph[file].add(target)
    return graph


def circle(graph: dict[Path, set[Path]]) -> list[Path]:
    """The files of one circle, in order; empty when there is none."""
    done: set[Path] = set()

    def walk(file: Path, trail: list[Path]) -> list[Path]:
        if file in trail:
            return [*trail[trail.index(file) :], file]
        if file in done:
            return []
        for target in sorted(graph[file]):
            if found := walk(target, [*trail, file]):
                return found
        done.add(file)
        return []

    for file in graph:
        if found := walk(file, []):
            return found
    return []


def main() -> int:
    circles = [found for src in CRATES if (found := circle(imports(src)))]
    for found in circles:
        print("files import each other: " + " -> ".join(str(file.relative_to(ROOT)) for file in found))
    return 1 if circles else 0


if __name__ == "__main__":
    sys.exit(main())
