#!/usr/bin/env python3
"""Deploys to AWS, for `make deploy`.

    deploy.py check [Name=value ...]         tell every fault of the parameters
    deploy.py architecture [Name=value ...]  print the architecture to build for
    deploy.py run [Name=value ...]           run `sam deploy`

A parameter that is not given keeps the value of the deployed stack. Without a stack it has
the default of the template. So what is checked here is what CloudFormation will use.
"""

import os
import sys
import tomllib

import boto3
import botocore.exceptions

import parameters as template
import release

SAMCONFIG = tomllib.loads((template.ROOT / "samconfig.toml").read_text())["default"]
# CloudFormation hides the values of these. Their present value was checked when it was given.
HIDDEN = {
    "MasterKeys": "A" * 43 + "=", "RedisUrl": "rediss://hidden.example:6379", "SigningSecrets": "whsec_" + "A" * 32,
}


def setting(name):
    """A setting of samconfig.toml that `sam deploy` reads."""
    for section in ("deploy", "global"):
        value = SAMCONFIG.get(section, {}).get("parameters", {}).get(name)
        if value:
            return value
    return None


def deployed():
    """The parameters of the stack on AWS; empty if there is none."""
    # `sam` and boto3 do not read AWS_REGION, which everything else reads.
    region = setting("region") or os.environ.get("AWS_REGION")
    session = boto3.Session(region_name=region, profile_name=setting("profile"))
    if not session.region_name:
        sys.exit("deploy.py: no region is set. Set AWS_REGION, or a region in the AWS configuration.")
    os.environ["AWS_DEFAULT_REGION"] = session.region_name
    try:
        stacks = session.client("cloudformation").describe_stacks(StackName=setting("stack_name"))["Stacks"]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return {}
        sys.exit(f"deploy.py: the stack cannot be read: {error}")
    except botocore.exceptions.BotoCoreError as error:
        sys.exit(f"deploy.py: AWS cannot be reached: {error}")
    present = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stacks[0].get("Parameters", [])}
    return {name: HIDDEN.get(name, value) if value.strip("*") == "" and value else value for name, value in present.items()}


def main(command, arguments):
    given, faults = template.parse(arguments)
    known = template.load()
    if given.pop("Release", None):
        faults.append("Release is set by `make deploy`")
    if setting("parameter_overrides"):
        faults.append("parameter_overrides in samconfig.toml is not used: give parameters with PARAMS")
    kept = {name: value for name, value in deployed().items() if name in known["Parameters"]}
    values = {**template.defaults(known), **kept, **given, "Release": "1" * 64}
    faults += template.faults(values)
    if faults:
        sys.exit("deploy.py: nothing was deployed, because of the parameters:\n" + "\n".join(f"  {fault}" for fault in faults))
    if command == "architecture":
        print(values["Architecture"])
    if command == "run":
        del values["Release"]
        given["Release"] = release.digest([f"{name}={value}" for name, value in values.items()])
        sam = template.ROOT / ".local" / "venvs" / "sam" / "bin" / "sam"
        os.execv(sam, [str(sam), "deploy", "--parameter-overrides", *template.overrides(given)])


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("check", "architecture", "run"):
        sys.exit("usage: deploy.py check|architecture|run [Name=value ...]")
    main(sys.argv[1], sys.argv[2:])
