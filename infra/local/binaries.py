"""Checks that the binaries in target/lambda can start on Lambda (provided.al2023).

    binaries.py arm64|x86_64

Each function has one, for this architecture. It needs no glibc newer than that of Amazon Linux 2023, and no library that
is not there.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MACHINES = {"arm64": "AArch64", "x86_64": "Advanced Micro Devices X86-64"}
GLIBC = (2, 34)
LIBRARIES = re.compile(r"(ld-linux-[\w-]+|libc|libdl|libgcc_s|libm|libpthread|librt)\.so\.\d+")


def faults(path, architecture):
    """What is wrong with a binary."""
    if not path.is_file():
        return ["is missing"]
    read = lambda option: subprocess.run(["readelf", option, path], check=True, capture_output=True, text=True).stdout
    wrong = []
    machine = re.search(r"Machine: +(.+)", read("-h"))[1]
    if machine != MACHINES[architecture]:
        wrong.append(f"is for {machine}, and not for {architecture}")
    versions = [tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([0-9.]+)", read("-V"))]
    if not versions:
        wrong.append("names no version of glibc")
    elif max(versions) > GLIBC:
        wrong.append(f"needs glibc {'.'.join(map(str, max(versions)))}, and Lambda has {'.'.join(map(str, GLIBC))}")
    for library in re.findall(r"Shared library: \[(.+)\]", read("-d")):
        if not LIBRARIES.fullmatch(library):
            wrong.append(f"needs {library}, which Lambda does not have")
    return wrong


def main(architecture):
    functions = sorted(path.parent.name for path in ROOT.glob("functions/*/Cargo.toml"))
    paths = [ROOT / "target" / "lambda" / name / "bootstrap" for name in functions]
    wrong = [f"{path.relative_to(ROOT)} {fault}" for path in paths for fault in faults(path, architecture)]
    print("\n".join(wrong) or f"{len(paths)} binaries can start on Lambda ({architecture})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
