"""Checks every policy of the templates, of roles and of queues, with parliament, which knows all actions of AWS and their resources.

It finds what neither CloudFormation nor the local AWS refuses: an action that does not exist, a resource that an action
does not apply to, and an ARN of the wrong form. Expressions are resolved first, with and without what the stack can create.
"""

import json
import sys

from parliament import analyze_policy_string

import parameters
from parameters import ACCOUNT, REGION, Stack

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d-0000-4000-8000-0123456789ab"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
OWN = {"RedisUrl": "rediss://cache.example", "RedisSecretArn": f"{SECRET}:redis-AbCdEf"}
MADE = {"CreateNetwork": "true", "CreateCache": "serverless", "KmsKeyArn": KEY}
ALWAYS = {
    "CriticalTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:critical", "IngestPrincipals": f"arn:aws:iam::{ACCOUNT}:role/shop",
    "MasterKeysSecretArn": f"{SECRET}:master-AbCdEf",
    "ReceiverCaSecretArn": f"{SECRET}:ca-AbCdEf", "Release": "1" * 64, "SecretsKmsKeyArn": KEY, "SigningSecretsArn": f"{SECRET}:signing-AbCdEf",
}
# Lambda requires its network permissions on all resources.
ACCEPTED = {("FunctionPolicy", "RESOURCE_STAR")}


def documents(stack, path=""):
    """Every policy document of a stack and of the stacks in it, with its place."""
    for name, resource in stack.template["Resources"].items():
        if "Condition" in resource and not stack.condition(resource["Condition"]):
            continue
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudFormation::Stack":
            yield from documents(stack.nested(name), f"{path}{name}.")
        elif resource["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Role", "AWS::SQS::QueuePolicy"):
            for policy in properties.get("Policies", [properties]):
                if "PolicyDocument" in policy:
                    yield f"{path}{name}", stack.resolve(policy["PolicyDocument"])


def main():
    template = parameters.load()
    known, count, wrong = template["Parameters"], 0, set()
    for chosen in (OWN, MADE):
        values = {**parameters.defaults(template), **ALWAYS, **chosen}
        for place, document in documents(Stack(template, {name: values[name] for name in known})):
            count += 1
            for finding in analyze_policy_string(json.dumps(document)).findings:
                if (place, finding.issue) not in ACCEPTED:
                    wrong.add(f"{place}: {finding.issue} {finding.detail}")
    for fault in sorted(wrong):
        print(fault)
    # An empty run would prove nothing.
    if count < 2 * 10:
        sys.exit(f"policies.py: only {count} policies were found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
