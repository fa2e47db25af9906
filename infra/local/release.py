"""The release that `make deploy` gives the template: a digest of everything that makes a version of a function.

SAM publishes a version only when the digest changes, and a version keeps the settings that it was published with. So a
file whose change can change a property of a function must be here. `test_templates.py` compares this list with the
template.
"""

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ["template.yaml", "infra/cache.yaml", "infra/network.yaml"]
BINARIES = "target/lambda/*/bootstrap"


def digest(parameters, root=ROOT):
    """64 hex digits. The order of the parameters does not matter."""
    binaries = sorted(root.glob(BINARIES))
    if not binaries:
        sys.exit(f"release.py: there is no {BINARIES}. Build the functions first.")
    whole = hashlib.sha256()
    for path in [*(root / name for name in TEMPLATES), *binaries]:
        whole.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for parameter in sorted(parameters):
        whole.update(f"{parameter}\n".encode())
    return whole.hexdigest()
