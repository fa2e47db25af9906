"""The parameters of the template, checked before anything is deployed.

    parameters.py environments [Name=value ...]   print the variables that each function gets, as JSON

`faults` tells everything that is wrong with them: unknown names, values that CloudFormation
would refuse, and settings that a function would refuse when it starts. For the last it
computes the environment that the template gives each function, and runs the functions' own
configuration code on it (`infra/check`).
"""

import ipaddress
import itertools
import ipaddress
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "target" / "debug" / "check"
ACCOUNT, REGION = "123456789012", "eu-central-1"
# What Lambda itself gives every function.
OF_LAMBDA = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "checked", "AWS_SECRET_ACCESS_KEY": "checked"}
# Lambda's limit for all variables of a function together, names and values.
ENVIRONMENT_BYTES = 4096
PSEUDO = {
    "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws", "AWS::Region": REGION, "AWS::StackName": "steadhook",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/steadhook/0a1b2c3d-0000-4000-8000-0123456789ab",
    "AWS::NoValue": None,
}
# What a resource that does not exist yet is called, by its type.
ARNS = {
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{id}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{id}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{id}",
    "AWS::IAM::Role": "iam::{account}:role/{id}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{id}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{id}:*",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{id}",
    "AWS::SecretsManager::Secret": "secretsmanager:{region}:{account}:secret:{id}-AbCdEf",
    "AWS::Serverless::Function": "lambda:{region}:{account}:function:{id}",
}
# Types whose `Ref` is their ARN.
REF_IS_ARN = {"AWS::IAM::ManagedPolicy", "AWS::SecretsManager::Secret"}


class Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions: `!Ref x` is `{"Ref": "x"}`. Refuses a key that stands twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)


def load(path=ROOT / "template.yaml"):
    """A template as CloudFormation's JSON has it."""
    return yaml.load(Path(path).read_text(), Loader)


def parse(arguments):
    """`Name=value` arguments as a dictionary, and what is wrong with them. The last one of a name wins."""
    given, wrong = {}, []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals:
            given[name] = value
        else:
            wrong.append(f"{argument!r} must have the form Name=value")
    return given, wrong


def defaults(template):
    """The parameters that have a default, with that default."""
    found = template["Parameters"].items()
    return {name: str(parameter["Default"]) for name, parameter in found if "Default" in parameter}


def overrides(values):
    """The values as arguments of `sam deploy --parameter-overrides`."""
    return [name + '="' + value.replace('"', '\\"') + '"' for name, value in values.items()]


class Stack:
    """A template with values for its parameters: what its expressions become."""

    def __init__(self, template, values, folder=ROOT):
        self.template = template
        self.values = values
        self.folder = folder

    def condition(self, name):
        return self.resolve(self.template["Conditions"][name])

    def resolve(self, node):
        """A part of the template with every expression replaced by its value."""
        if isinstance(node, list):
            return [item for item in map(self.resolve, node) if item is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            name, argument = next(iter(node.items()))
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return getattr(self, "_" + name.removeprefix("Fn::").lower())(argument)
        resolved = {name: self.resolve(value) for name, value in node.items()}
        return {name: value for name, value in resolved.items() if value is not None}

    def _ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.template.get("Parameters", {}):
            return self.values[name]
        # SAM creates a resource for `Function.Version` and `Function.Alias`.
        name, _, made = name.partition(".")
        resource = self.template["Resources"].get(name, {})
        if made or resource.get("Type") in REF_IS_ARN:
            return self._getatt([name, "Arn"]) + (f":{1 if made == 'Version' else 'live'}" if made else "")
        if resource.get("Type") == "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"
        return name

    def _getatt(self, argument):
        name, attribute = argument
        resource = self.template["Resources"][name]
        kind = resource["Type"]
        if kind == "AWS::CloudFormation::Stack":
            return self.nested(name).output(attribute.removeprefix("Outputs."))
        if attribute == "Arn":
            return "arn:aws:" + ARNS[kind].format(region=REGION, account=ACCOUNT, id=name)
        if attribute == "Ipv6CidrBlocks":
            return ["2001:db8:0:100::/56"]
        if attribute.endswith("CidrBlocks"):
            return ["2001:db8::/56"]
        # Ports must be numbers, and addresses must be host names.
        return "6379" if attribute.endswith("Port") else f"{name}.{attribute}".lower()

    def nested(self, name):
        """The stack that a resource of this name is."""
        properties = self.template["Resources"][name]["Properties"]
        path = self.folder / properties["TemplateURL"]
        template = load(path)
        given = {key: str(value) for key, value in self.resolve(properties.get("Parameters", {})).items()}
        return Stack(template, {**defaults(template), **given}, path.parent)

    def output(self, name):
        return self.resolve(self.template["Outputs"][name]["Value"])

    def _condition(self, name):
        return self.condition(name)

    def _if(self, argument):
        name, then, otherwise = argument
        return self.resolve(then if self.condition(name) else otherwise)

    def _equals(self, argument):
        first, second = (str(self.resolve(item)) for item in argument)
        return first == second

    def _not(self, argument):
        return not self.resolve(argument[0])

    def _and(self, argument):
        return all(self.resolve(item) for item in argument)

    def _or(self, argument):
        return any(self.resolve(item) for item in argument)

    def _contains(self, argument):
        items, item = self.resolve(argument)
        return str(item) in map(str, items)

    def _join(self, argument):
        separator, items = argument
        return separator.join(str(item) for item in self.resolve(items))

    def _select(self, argument):
        index, items = argument
        return self.resolve(items)[int(index)]

    def _split(self, argument):
        separator, text = argument
        return self.resolve(text).split(separator)

    def _getazs(self, _):
        return [f"{REGION}{letter}" for letter in "abc"]

    def _cidr(self, argument):
        block, count, bits = (self.resolve(item) for item in argument)
        block = ipaddress.ip_network(block)
        parts = block.subnets(new_prefix=block.max_prefixlen - int(bits))
        return [str(part) for part in itertools.islice(parts, int(count))]

    def _sub(self, argument):
        text, names = (argument, {}) if isinstance(argument, str) else argument

        def replaced(found):
            name = found[1]
            if name in names:
                return str(self.resolve(names[name]))
            if name in PSEUDO or "." not in name:
                return str(self._ref(name))
            return str(self._getatt(name.split(".", 1)))

        return re.sub(r"\$\{([^!}][^}]*)\}", replaced, text)

    def functions(self):
        """The functions of ours, by the name of their binary."""
        for resource in self.template["Resources"].values():
            code = resource.get("Properties", {}).get("CodeUri", "")
            if resource["Type"] == "AWS::Serverless::Function" and code.startswith("target/lambda/"):
                yield code.removeprefix("target/lambda/"), resource["Properties"]

    def environments(self):
        """The variables that each function gets."""
        shared = self.template["Globals"]["Function"]["Environment"]["Variables"]
        for name, properties in self.functions():
            own = properties.get("Environment", {}).get("Variables", {})
            resolved = self.resolve({**shared, **own})
            yield name, {variable: str(value) for variable, value in resolved.items()}


def refused_by_cloudformation(template, values):
    """What is wrong with single values, as CloudFormation would say."""
    for name, value in values.items():
        parameter = template["Parameters"][name]
        if parameter["Type"] == "Number":
            try:
                number = float(value)
            except ValueError:
                yield f"{name} must be a number"
                continue
            low, high = parameter.get("MinValue", number), parameter.get("MaxValue", number)
            if not low <= number <= high:
                yield f"{name} must be from {low} to {high}"
        allowed = [str(choice) for choice in parameter.get("AllowedValues", [value])]
        if value not in allowed:
            yield f"{name} must be one of {', '.join(allowed)}"
        if not re.fullmatch(parameter.get("AllowedPattern", ".*"), value, re.DOTALL):
            yield f"{name} {parameter['ConstraintDescription']}"


def refused_by_rules(stack):
    """The rules of the template that do not hold."""
    for rule in stack.template.get("Rules", {}).values():
        if stack.resolve(rule.get("RuleCondition", True)):
            for assertion in rule["Assertions"]:
                if not stack.resolve(assertion["Assert"]):
                    yield assertion["AssertDescription"]


def refused_by_functions(stack):
    """What the functions refuse to start with, and environments that Lambda does not take."""
    environments = dict(stack.environments())
    if not CHECK.is_file():
        raise SystemExit(f"{CHECK} is missing. Run `make build` to create it.")
    # The functions' code decides. This process only asks it.
    asked = {name: {**OF_LAMBDA, **variables} for name, variables in environments.items()}
    done = subprocess.run([CHECK], input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{CHECK} failed: {done.stderr}")
    functions = {}
    for fault in json.loads(done.stdout):
        functions.setdefault((fault["setting"], fault["why"]), []).append(fault["function"])
    parameters = {}
    for _, properties in stack.functions():
        for variable, value in properties.get("Environment", {}).get("Variables", {}).items():
            if isinstance(value, dict) and value.get("Ref") in stack.template["Parameters"]:
                parameters[variable] = value["Ref"]
    for (setting, why), names in functions.items():
        yield f"{parameters.get(setting, setting)} is refused by {', '.join(sorted(names))}: {setting} {why}"
    for name, variables in environments.items():
        size = sum(len(key.encode()) + len(value.encode()) for key, value in variables.items())
        if size > ENVIRONMENT_BYTES:
            yield f"the settings of {name} have {size} bytes, and Lambda takes {ENVIRONMENT_BYTES}"


def refused_by_lambda(values):
    """What Lambda refuses although each value alone is fine."""
    mappings = ("Delivery", "Retry", "Wait", "Slow")
    reserved, *used = (int(values[f"{name}Concurrency"]) for name in ("DeliverReserved", *mappings))
    if 0 < reserved < sum(used):
        yield f"DeliverReservedConcurrency must be at least {' plus '.join(f'{name}Concurrency' for name in mappings)}"


def faults(values):
    """Everything that is wrong with these parameters. Those without a value have their default."""
    template = load()
    known = template["Parameters"]
    wrong = [f"{name} is no parameter of the template" for name in values if name not in known]
    values = {**defaults(template), **{name: value for name, value in values.items() if name in known}}
    missing = [f"{name} is missing" for name in known if name not in values]
    if missing:
        return wrong + missing
    single = list(refused_by_cloudformation(template, values))
    stack = Stack(template, values)
    # What is wrong with a single value is told once.
    told = {fault.split()[0] for fault in single}
    later = [*refused_by_rules(stack), *refused_by_functions(stack)]
    if not told:
        later += refused_by_lambda(values)
    return wrong + single + [fault for fault in later if fault.split()[0] not in told]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["environments", *arguments]:
            template = load()
            values = {**defaults(template), "Release": "1" * 64, **parse(arguments)[0]}
            print(json.dumps(dict(Stack(template, values).environments()), indent=1))
        case _:
            sys.exit("usage: parameters.py environments [Name=value ...]")
