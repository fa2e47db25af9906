"""What SAM makes of the template: the resources that `template.yaml` does not say itself.

    translate.py check    compare them with infra/translated.yaml, and lint the whole translation
    translate.py write    write infra/translated.yaml

Review a difference: a new version of SAM, or one word in the template, may change what is deployed.
"""

import difflib
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

import parameters
from parameters import REGION, ROOT

SNAPSHOT = ROOT / "infra" / "translated.yaml"
# A translation needs code that is uploaded.
CODE = "s3://code/"
HEAD = "# Written by infra/local/translate.py: the resources that SAM makes of template.yaml.\n"


def translation():
    """The whole template after SAM's transformation, as CloudFormation gets it."""
    template = parameters.load()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = CODE + resource["Properties"]["CodeUri"]
    # SAM tells of a switch that only its own service has.
    logging.disable(logging.WARNING)
    translator = Translator(None, Parser(), boto_session=boto3.Session(region_name=REGION))
    return translator.translate(template, parameter_values=parameters.defaults(template))


def made_by_sam(translated):
    """The resources that are not in the template as they are. What SAM passes on unchanged is reviewed there."""
    given = parameters.load()["Resources"]
    return {name: resource for name, resource in translated["Resources"].items() if given.get(name) != resource}


def lint(translated):
    """Whether cfn-lint finds nothing in the translation."""
    with tempfile.TemporaryDirectory() as folder:
        # Nested stacks are found beside the template.
        (Path(folder) / "infra").symlink_to(ROOT / "infra")
        path = Path(folder) / "translated.json"
        path.write_text(json.dumps(translated, indent=1))
        # W1030 and W1033 are ignored for the template as well. W2001: SAM takes the deployment preference out of the
        # template. W3002: `sam deploy` uploads nested stacks.
        linter = Path(sys.executable).with_name("cfn-lint")
        ignored = ["--ignore-checks", "W1030", "W1033", "W2001", "W3002"]
        return subprocess.run([linter, *ignored, "--", path]).returncode == 0


def main(command):
    translated = translation()
    text = HEAD + yaml.safe_dump(json.loads(json.dumps(made_by_sam(translated))), width=120)
    if command == "write":
        SNAPSHOT.write_text(text)
        return 0
    kept = SNAPSHOT.read_text() if SNAPSHOT.is_file() else ""
    if text != kept:
        differences = difflib.unified_diff(kept.splitlines(), text.splitlines(), "infra/translated.yaml", "now", lineterm="")
        print("\n".join(differences))
        print("The translation of the template has changed. If that is right, run `infra/local/translate.py write`.")
        return 1
    return 0 if lint(translated) else 1


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["write"]):
        sys.exit("usage: translate.py check|write")
    sys.exit(main(sys.argv[1]))
