"""What the templates must do on AWS, and what neither a linter nor the local AWS would notice.

    test_templates.py [--quiet]   with the Python of .local/venvs/sam, which has cfn-lint and the SAM translator

Expressions are resolved as CloudFormation resolves them (`parameters.py`), and SAM's own translator makes the resources of
the functions. Which properties CloudFormation changes only by a replacement is read from the registry schemas of cfn-lint.
"""

import fnmatch
import functools
import ipaddress
import logging
import re
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import boto3
import yaml
from cfnlint.schema import ResourceNotFoundError
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

import deploy
import parameters
import release
from parameters import REGION, ROOT, Stack

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret"
GIVEN = {"Release": "1" * 64, "SigningSecretsArn": f"{SECRET}:s", "MasterKeysSecretArn": f"{SECRET}:m"}
MADE = {"CreateNetwork": "true", "CreateCache": "serverless", "CriticalTopicArn": "arn:aws:sns:eu-central-1:123456789012:t"}
KEYS = [f"arn:aws:kms:eu-central-1:123456789012:key/{n}" for n in (1, 2)]
# What belongs to a deployment and not to the function that is deployed.
OF_DEPLOYMENTS = {"AutoPublishAlias", "AutoPublishCodeSha256", "DeploymentPreference"}
# CloudFormation takes a template of this size from S3; without S3, one of 51,200 bytes.
TEMPLATE_BYTES = 1_000_000


def stack(**values):
    """The stack with these parameters. Without any, it has its own Redis."""
    template = parameters.load()
    redis = {} if "CreateCache" in values else {"RedisUrl": "redis://localhost"}
    return Stack(template, {**parameters.defaults(template), **GIVEN, **redis, **values})


def nested(name, **values):
    return stack(**{**MADE, **values}).nested(name)


@functools.cache
def translated():
    """The template after SAM's transformation."""
    template = parameters.load()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    translator = Translator(None, Parser(), boto_session=boto3.Session(region_name=REGION))
    return translator.translate(template, parameter_values=GIVEN)


def of_type(template, kind):
    return {name: it["Properties"] for name, it in template["Resources"].items() if it["Type"] == kind}


def made(part, kind):
    """The resources of a type that a stack creates, with their values."""
    found = {}
    for name, resource in part.template["Resources"].items():
        if resource["Type"] == kind and ("Condition" not in resource or part.condition(resource["Condition"])):
            found[name] = part.resolve(resource["Properties"])
    return found


def names_in(node):
    """The names that an expression refers to: parameters, resources, conditions."""
    if isinstance(node, list):
        for item in node:
            yield from names_in(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("Ref", "Condition") and isinstance(value, str):
                yield value.split(".")[0]
            elif key == "Fn::GetAtt":
                yield (value if isinstance(value, str) else value[0]).split(".")[0]
            elif key == "Fn::If":
                yield value[0]
                yield from names_in(value[1:])
            elif key == "Fn::Sub":
                text, given = (value, {}) if isinstance(value, str) else value
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text) if name not in given)
                yield from names_in(given)
            else:
                yield from names_in(value)


def parameters_behind(part, node, above=None, done=None):
    """The parameters of the whole stack that an expression depends on: through conditions, resources and nested stacks."""
    done = set() if done is None else done
    template, found = part.template, set()
    for name in set(names_in(node)):
        if name in template.get("Parameters", {}):
            if above is None:
                found.add(name)
            else:
                outer, properties = above
                found |= parameters_behind(outer, properties.get("Parameters", {}).get(name), None, done)
        elif (id(part), name) in done or name.startswith("AWS::"):
            continue
        elif name in template.get("Conditions", {}):
            found |= parameters_behind(part, template["Conditions"][name], above, done)
        elif template["Resources"].get(name, {}).get("Type") == "AWS::CloudFormation::Stack":
            properties = template["Resources"][name]["Properties"]
            inner = Stack(parameters.load(part.folder / properties["TemplateURL"]), {})
            for output in outputs_in(node, name):
                found |= parameters_behind(inner, inner.template["Outputs"][output]["Value"], (part, properties), done)
        else:
            done.add((id(part), name))
            found |= parameters_behind(part, template["Resources"].get(name, {}).get("Properties"), above, done)
    return found


def outputs_in(node, name):
    """The outputs of a nested stack that an expression takes."""
    if isinstance(node, list):
        return [output for item in node for output in outputs_in(item, name)]
    if not isinstance(node, dict):
        return []
    if node.get("Fn::GetAtt", [None])[0] == name:
        return [node["Fn::GetAtt"][1].removeprefix("Outputs.")]
    return [output for value in node.values() for output in outputs_in(value, name)]


def allows(statements, action, resource, **context):
    """Whether IAM allows a call: a denial wins."""

    def applies(statement):
        as_list = lambda value: value if isinstance(value, list) else [value]
        if not any(fnmatch.fnmatchcase(action, pattern) for pattern in as_list(statement["Action"])):
            return False
        if not any(fnmatch.fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"])):
            return False
        for operator, wanted in statement.get("Condition", {}).items():
            for key, value in wanted.items():
                is_equal = context.get(key) == value
                holds = {"Null": (key not in context) == (value == "true"), "StringEquals": is_equal, "Bool": is_equal,
                         # Without any value, it holds.
                         "ForAllValues:StringEquals": set(context.get(key, [])) <= set(value)}
                if not holds[operator]:
                    return False
        return True

    effects = {statement["Effect"] for statement in statements if applies(statement)}
    return "Allow" in effects and "Deny" not in effects


def shared_policy(**values):
    return made(stack(**values), "AWS::IAM::ManagedPolicy")["FunctionPolicy"]["PolicyDocument"]["Statement"]


class Point19Release(unittest.TestCase):
    def test_every_file_that_reaches_a_function_is_part_of_the_release(self):
        template = parameters.load()
        resources, done = template["Resources"], set()
        todo = ["Enqueue", "Deliver", *names_in(template["Globals"])]
        while todo:
            name = todo.pop()
            if name in resources and name not in done:
                done.add(name)
                properties = resources[name].get("Properties", {})
                todo += names_in({key: value for key, value in properties.items() if key not in OF_DEPLOYMENTS})
        properties = [resources[name]["Properties"] for name in done]
        templates = {it["TemplateURL"] for it in properties if "TemplateURL" in it}
        self.assertEqual({"template.yaml", *templates}, set(release.TEMPLATES))
        code = [it["CodeUri"] for it in properties if "CodeUri" in it]
        self.assertGreaterEqual(len(code), 2)
        for folder in code:
            self.assertTrue(fnmatch.fnmatchcase(f"{folder}/bootstrap", release.BINARIES), folder)

    def test_a_change_of_any_of_these_files_or_of_a_parameter_is_another_release(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            files = [*release.TEMPLATES, *(f"target/lambda/{name}/bootstrap" for name in ("enqueue", "deliver"))]
            for name in files:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
            seen = {release.digest(["A=1", "B=2"], root)}
            self.assertEqual({release.digest(["B=2", "A=1"], root)}, seen)
            seen.add(release.digest(["A=1", "B=3"], root))
            for name in files:
                (root / name).write_text("changed")
                seen.add(release.digest(["A=1", "B=2"], root))
            self.assertEqual(len(seen), 2 + len(files))
            for digest in seen:
                self.assertRegex(digest, "^[0-9a-f]{64}$")

    def test_a_deployment_names_the_release_after_all_parameters(self):
        digest = mock.Mock(return_value="2" * 64)
        with (
            mock.patch.object(deploy, "deployed", return_value={"BatchSize": "7"}),
            mock.patch.object(parameters, "faults", return_value=[]),
            mock.patch.object(release, "digest", digest),
            mock.patch("os.execv") as run,
        ):
            deploy.main("run", ["MaxRetries=1"])
        (hashed,), _ = digest.call_args
        for parameter in ("MaxRetries=1", "BatchSize=7", "RetryBaseS=10"):
            self.assertIn(parameter, hashed)
        self.assertIn(f'Release="{"2" * 64}"', run.call_args.args[1])


class Point20NamedResources(unittest.TestCase):
    def named_resources(self):
        """Every resource whose whole identity the templates choose: CloudFormation never replaces it under the same name."""
        root = stack()
        parts = [(Stack(translated(), {}), None)]
        for resource in of_type(parameters.load(), "AWS::CloudFormation::Stack").values():
            parts.append((Stack(parameters.load(ROOT / resource["TemplateURL"]), {}), (root, resource)))
        for part, above in parts:
            for name, resource in part.template["Resources"].items():
                try:
                    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource["Type"]).schema
                except ResourceNotFoundError:
                    continue
                properties = resource.get("Properties", {})
                short = lambda key: {path.split("/")[2] for path in schema.get(key) or []}
                identity = short("primaryIdentifier")
                if identity and identity <= properties.keys():
                    fixed = (short("createOnlyProperties") & properties.keys()) - identity
                    behind = lambda keys: parameters_behind(part, [properties[key] for key in keys], above)
                    yield name, resource["Type"], behind(identity), behind(fixed), fixed

    def test_no_create_only_property_of_a_named_resource_changes_under_the_same_name(self):
        described = parameters.load()["Parameters"]
        seen = {}
        for name, kind, in_name, in_fixed, fixed in self.named_resources():
            seen[kind] = fixed
            for parameter in in_fixed - in_name:
                # It is settable only at creation, and its description must say so: with a new name, or not at all.
                says = described[parameter]["Description"]
                told = any(f"needs a new {other}" in says for other in in_name - in_fixed)
                told = told or "only when it is created" in says
                with self.subTest(resource=name, parameter=parameter):
                    self.assertTrue(told, f"{sorted(fixed)} of {name} cannot change, and {parameter} does not say so")
        self.assertEqual(seen["AWS::ElastiCache::ServerlessCache"], {"KmsKeyId", "SubnetIds"})
        self.assertIn("AWS::ElastiCache::User", seen)

    def test_a_new_generation_is_another_name_and_takes_effect_nowhere_else(self):
        name = lambda **values: made(nested("Cache", **values), "AWS::ElastiCache::ServerlessCache")["ServerlessCache"]
        first, second = name(), name(CacheGeneration="g2")
        self.assertEqual(second.pop("ServerlessCacheName"), first["ServerlessCacheName"] + "-g2")
        self.assertLessEqual(len(first.pop("ServerlessCacheName")) + len("-") + 12, 40)
        self.assertEqual(first, second)


class Point21Zones(unittest.TestCase):
    def zones(self, **values):
        subnets = made(nested("Network", **values), "AWS::EC2::Subnet")
        return {name: subnet["AvailabilityZone"] for name, subnet in subnets.items()}

    def test_the_zones_are_those_that_are_given_or_the_first_two(self):
        expect = lambda a, b: {"PublicSubnetA": a, "PrivateSubnetA": a, "PublicSubnetB": b, "PrivateSubnetB": b}
        self.assertEqual(self.zones(), expect(f"{REGION}a", f"{REGION}b"))
        given = self.zones(ZoneA=f"{REGION}c", ZoneB=f"{REGION}a")
        self.assertEqual(given, expect(f"{REGION}c", f"{REGION}a"))

    def test_one_zone_or_twice_the_same_zone_is_refused(self):
        refused = lambda **values: any("ZoneA" in why for why in parameters.refused_by_rules(stack(**{**MADE, **values})))
        self.assertFalse(refused())
        self.assertFalse(refused(ZoneA=f"{REGION}c", ZoneB=f"{REGION}a"))
        self.assertTrue(refused(ZoneA=f"{REGION}c"))
        self.assertTrue(refused(ZoneB=f"{REGION}c"))
        self.assertTrue(refused(ZoneA=f"{REGION}c", ZoneB=f"{REGION}c"))
        self.assertTrue(refused(ZoneA=f"{REGION}c", ZoneB=f"{REGION}a", CreateNetwork="false"))


class Point22Rollback(unittest.TestCase):
    def alarms_of(self, function):
        """The alarms of a function's deployments, and the version that SAM publishes."""
        template = translated()
        group = of_type(template, "AWS::CodeDeploy::DeploymentGroup")[f"{function}DeploymentGroup"]
        versions = [name for name in of_type(template, "AWS::Lambda::Version") if name.startswith(f"{function}Version")]
        alias = of_type(template, "AWS::Lambda::Alias")[f"{function}Aliaslive"]
        self.assertEqual([alias["FunctionVersion"]["Fn::GetAtt"]], [[name, "Version"] for name in versions])
        rollback = template["Resources"]["Rollback"]["Properties"]
        part = Stack(parameters.load(ROOT / rollback["TemplateURL"]), rollback["Parameters"])
        for alarm in group["AlarmConfiguration"]["Alarms"]:
            stack_name, output = alarm["Name"]["Fn::GetAtt"]
            self.assertEqual(stack_name, "Rollback")
            named = part.template["Outputs"][output.removeprefix("Outputs.")]["Value"]["Ref"]
            properties = part.template["Resources"][named]["Properties"]
            dimensions = {it["Name"]: it["Value"] for it in properties["Dimensions"]}
            yield properties, {name: part.values.get((value or {}).get("Ref"), value) if isinstance(value, dict) else value
                               for name, value in dimensions.items()}, {"Fn::GetAtt": [versions[0], "Version"]}

    def test_only_the_new_version_rolls_itself_back_and_soft_failures_count(self):
        for function, binary in (("Enqueue", "enqueue"), ("Deliver", "deliver")):
            with self.subTest(function=function):
                found = {}
                for alarm, dimensions, version in self.alarms_of(function):
                    found[alarm["Namespace"], alarm["MetricName"]] = alarm
                    own = "ExecutedVersion" if alarm["Namespace"] == "AWS/Lambda" else "version"
                    self.assertEqual(dimensions.get(own), version, alarm["MetricName"])
                soft = f"task_invocations_total.{binary}.error"
                self.assertEqual(set(found), {("AWS/Lambda", "Errors"), ("Steadhook", soft)})
                # The mean of ones and zeros is the share of invocations that failed.
                self.assertEqual(found["Steadhook", soft]["Statistic"], "Average")
                self.assertLess(found["Steadhook", soft]["Threshold"], 1)
                for alarm in found.values():
                    self.assertEqual(alarm["TreatMissingData"], "notBreaching")


class Point28Alarms(unittest.TestCase):
    def watched(self, **values):
        """Metric names and where they come from, by alarm."""
        found = {}
        for name, alarm in made(nested("Alarms", **values), "AWS::CloudWatch::Alarm").items():
            metrics = [it["MetricStat"]["Metric"] for it in alarm.get("Metrics", []) if "MetricStat" in it]
            for metric in metrics or [alarm]:
                for dimension in metric.get("Dimensions", []):
                    found.setdefault(name, set()).add((metric["MetricName"], dimension["Name"], dimension["Value"]))
        return found

    def test_server_errors_of_the_api_are_watched(self):
        self.assertEqual(self.watched()["ApiServerErrors"], {("5xx", "ApiId", "Api")})

    def test_a_serverless_cache_is_watched_as_a_whole(self):
        watched = self.watched()
        cache = nested("Cache").output("Name")
        self.assertEqual(watched["CacheNearlyFull"], {("BytesUsedForCache", "clusterId", cache)})
        self.assertEqual(watched["CacheEvicts"], {("Evictions", "clusterId", cache)})
        self.assertEqual(watched["CacheThrottles"], {("ThrottledCmds", "clusterId", cache)})
        alarm = made(nested("Alarms"), "AWS::CloudWatch::Alarm")["CacheNearlyFull"]
        limit = made(nested("Cache"), "AWS::ElastiCache::ServerlessCache")["ServerlessCache"]["CacheUsageLimits"]
        expression = alarm["Metrics"][1]["Expression"]
        at = lambda used: eval(expression, {"__builtins__": {}}, {"used": used})  # noqa: S307
        full = float(limit["DataStorage"]["Maximum"]) * 1e9
        self.assertLess(at(0.79 * full), alarm["Threshold"])
        self.assertGreater(at(0.81 * full), alarm["Threshold"])

    def test_each_node_of_a_cache_of_nodes_is_watched(self):
        watched = self.watched(CreateCache="nodes")
        cache = nested("Cache", CreateCache="nodes")
        group = made(cache, "AWS::ElastiCache::ReplicationGroup")["Nodes"]
        count = 1 + group["ReplicasPerNodeGroup"]
        self.assertEqual(group["NumNodeGroups"], 1)
        nodes = {f"{cache.output('Name')}-0001-{n:03}" for n in range(1, count + 1)}
        for alarm, metric in (("CacheNearlyFull", "DatabaseMemoryUsagePercentage"), ("CacheEvicts", "Evictions")):
            self.assertEqual(watched[alarm], {(metric, "CacheClusterId", node) for node in nodes})
        self.assertNotIn("CacheThrottles", watched)

    def test_a_redis_of_ones_own_has_no_such_alarm(self):
        watched = self.watched(CreateCache="no", RedisUrl="redis://localhost")
        self.assertFalse([name for name in watched if name.startswith("Cache")])


class Point29Hardening(unittest.TestCase):
    def test_only_lambda_itself_may_use_the_network_permissions_of_a_role(self):
        policy = shared_policy(**MADE)
        actions = {action for it in policy for action in it["Action"] if action.startswith("ec2:")}
        self.assertEqual(len(actions), 6)
        for action in actions:
            self.assertTrue(allows(policy, action, "*"), action)
            by_code = {"lambda:SourceFunctionArn": "arn:aws:lambda:eu-central-1:123456789012:function:f"}
            self.assertFalse(allows(policy, action, "*", **by_code), action)

    def test_secrets_under_keys_of_ones_own_can_be_read_and_nothing_else_under_them(self):
        may = lambda policy, key, **context: allows(policy, "kms:Decrypt", key, **context)
        by_secrets = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
        policy = shared_policy(SecretsKmsKeyArn=",".join(KEYS))
        for key in KEYS:
            self.assertTrue(may(policy, key, **by_secrets))
            self.assertFalse(may(policy, key))
            self.assertFalse(may(shared_policy(), key, **by_secrets))

    def test_a_table_stays_unless_the_deployment_that_creates_it_fails(self):
        tables = [it for it in parameters.load()["Resources"].values() if it["Type"] == "AWS::DynamoDB::Table"]
        self.assertTrue(tables)
        for table in tables:
            self.assertEqual(table["DeletionPolicy"], "RetainExceptOnCreate")
            self.assertEqual(table["UpdateReplacePolicy"], "Retain")

    def test_no_log_level_drops_the_lines_that_carry_metrics(self):
        # Lambda takes a line without a level for INFO.
        level = parameters.load()["Parameters"]["LogLevel"]
        self.assertEqual(level["AllowedValues"], ["TRACE", "DEBUG", "INFO"])
        ours = of_type(parameters.load(), "AWS::Serverless::Function")
        self.assertEqual(len(ours), 11)
        functions = of_type(translated(), "AWS::Lambda::Function")
        for name in ours:
            config = functions[name]["LoggingConfig"]
            self.assertEqual((config["ApplicationLogLevel"], config["LogFormat"]), ({"Ref": "LogLevel"}, "JSON"), name)

    def test_ipv6_leads_out_of_the_private_subnets_and_not_into_the_network(self):
        network = nested("Network")
        block = ipaddress.ip_network(network.output("Ipv6Block"))
        subnets = made(network, "AWS::EC2::Subnet")
        private = [subnets[name] for name in network.output("SubnetIds").split(",")]
        ranges = [ipaddress.ip_network(subnet["Ipv6CidrBlock"]) for subnet in private]
        self.assertEqual(len(ranges), 2)
        self.assertFalse(ranges[0].overlaps(ranges[1]))
        for part in ranges:
            self.assertEqual(part.prefixlen, 64)
            self.assertTrue(part.subnet_of(block))
            self.assertIn(str(part), network.output("EgressAddresses").split(","))
        # The block belongs to the VPC only after this resource.
        for name in network.output("SubnetIds").split(","):
            self.assertEqual(network.template["Resources"][name]["DependsOn"], "Ipv6Block")
        tables = {it["SubnetId"]: it["RouteTableId"]
                  for it in made(network, "AWS::EC2::SubnetRouteTableAssociation").values()}
        routes = {(it["RouteTableId"], it["DestinationIpv6CidrBlock"]): it
                  for it in made(network, "AWS::EC2::Route").values() if "DestinationIpv6CidrBlock" in it}
        gateways = made(network, "AWS::EC2::EgressOnlyInternetGateway")
        for name in network.output("SubnetIds").split(","):
            self.assertIn(routes[tables[name], "::/0"]["EgressOnlyInternetGatewayId"], gateways)
        self.assertFalse([it for it in routes.values() if "GatewayId" in it])
        group = made(network, "AWS::EC2::SecurityGroup")["FunctionsGroup"]
        self.assertIn("::/0", [rule.get("CidrIpv6") for rule in group["SecurityGroupEgress"]])
        shared = parameters.load()["Globals"]["Function"]["VpcConfig"]
        self.assertTrue(stack(**MADE).resolve(shared)["Ipv6AllowedForDualStack"])
        own = stack(SubnetIds="subnet-1", FunctionsSecurityGroupId="sg-1")
        self.assertNotIn("Ipv6AllowedForDualStack", own.resolve(shared))
        for function in ("enqueue", "deliver"):
            refused = dict(stack(**MADE, RefusedCidrs="192.0.2.0/24").environments())[function]["REFUSED_CIDRS"]
            self.assertEqual(refused.split(","), ["192.0.2.0/24", str(block)])
            self.assertEqual(dict(stack().environments())[function]["REFUSED_CIDRS"], "")

    def test_certificate_authorities_may_be_a_secret(self):
        arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ca"
        role = lambda **values: made(stack(**values), "AWS::IAM::Role")["DeliverRole"]["Policies"][0]["PolicyDocument"]
        read = "secretsmanager:GetSecretValue"
        self.assertTrue(allows(role(ReceiverCaSecretArn=arn)["Statement"], read, arn))
        self.assertFalse(allows(role()["Statement"], read, arn))
        deliver = dict(stack(ReceiverCaSecretArn=arn).environments())["deliver"]
        self.assertEqual(deliver["RECEIVER_CA_SECRET_ARN"], arn)
        both = stack(ReceiverCaSecretArn=arn, ReceiverCaPem="-----BEGIN CERTIFICATE-----")
        self.assertTrue([why for why in parameters.refused_by_rules(both) if "ReceiverCaPem" in why])


class Point14Health(unittest.TestCase):
    def test_the_open_route_has_a_small_share_of_the_requests_and_of_the_concurrency(self):
        function = lambda **values: made(stack(**values), "AWS::Serverless::Function")["Health"]
        self.assertEqual(function()["ReservedConcurrentExecutions"], "5")
        self.assertNotIn("ReservedConcurrentExecutions", function(HealthReservedConcurrency="0"))
        stage = stack().template["Resources"]["Stage"]
        key = parameters.load()["Resources"]["GetHealth"]["Properties"]["RouteKey"]
        # Numbers, not parameters: CloudFormation passes this property on as JSON, and a parameter as text.
        self.assertEqual(stage["Properties"]["RouteSettings"][key],
                         {"ThrottlingRateLimit": 10, "ThrottlingBurstLimit": 20})
        # API Gateway refuses settings of a route that does not exist yet.
        self.assertIn("GetHealth", stage["DependsOn"])


class Point24Operators(unittest.TestCase):
    def let_in(self, group):
        """Who may connect to the members of a group, and to which ports."""
        rules = made(nested("Network"), "AWS::EC2::SecurityGroup")[group].get("SecurityGroupIngress", [])
        return {(rule["SourceSecurityGroupId"], rule["FromPort"], rule["ToPort"]) for rule in rules}

    def test_operators_and_the_sidecar_reach_the_cache_and_aws_and_nobody_reaches_them(self):
        both = {"FunctionsGroup", "OperatorsGroup"}
        self.assertEqual(self.let_in("CacheGroup"), {(group, 6379, 6380) for group in both})
        self.assertEqual(self.let_in("EndpointsGroup"), {(group, 443, 443) for group in both})
        self.assertEqual(self.let_in("OperatorsGroup"), set())
        out = made(nested("Network"), "AWS::EC2::SecurityGroup")["OperatorsGroup"]["SecurityGroupEgress"]
        self.assertEqual({(rule["CidrIp"], rule["FromPort"], rule["ToPort"]) for rule in out},
                         {("0.0.0.0/0", 443, 443), ("10.64.0.0/20", 6379, 6380)})

    def test_what_the_stack_created_is_an_output(self):
        root = stack(**MADE)
        network, cache = root.nested("Network"), root.nested("Cache")
        for output, part, name in (
            ("VpcId", network, "VpcId"), ("PrivateSubnetIds", network, "SubnetIds"),
            ("OperatorsSecurityGroupId", network, "OperatorsGroupId"),
            ("FunctionsSecurityGroupId", network, "FunctionsGroupId"), ("CacheSecurityGroupId", network, "CacheGroupId"),
            ("CacheUrl", cache, "Url"), ("CacheSecretArn", cache, "SecretArn"),
        ):
            self.assertEqual(root.output(output), part.output(name), output)
            made_of = "MakesCache" if part is cache else "MakesNetwork"
            self.assertEqual(root.template["Outputs"][output]["Condition"], made_of, output)


class Point32StartCheck(unittest.TestCase):
    def test_a_new_version_is_checked_before_it_gets_traffic(self):
        aliases = {name: it for name, it in translated()["Resources"].items() if it["Type"] == "AWS::Lambda::Alias"}
        self.assertEqual(set(aliases), {"EnqueueAliaslive", "DeliverAliaslive"})
        for alias in aliases.values():
            hook = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["BeforeAllowTrafficHook"]
            self.assertEqual(hook, {"Fn::GetAtt": ["StartCheck", "Outputs.Name"]})

    def test_codedeploy_may_invoke_the_hook_and_the_hook_may_do_little(self):
        part = nested("StartCheck")
        function = made(part, "AWS::Lambda::Function")["Hook"]
        # What AWSCodeDeployRoleForLambdaLimited allows.
        self.assertTrue(function["FunctionName"].startswith("CodeDeployHook_"))
        self.assertLessEqual(len(function["FunctionName"]), 64)
        self.assertEqual(part.output("Name"), "Hook")
        self.assertTrue((ROOT / "infra" / function["Code"] / "index.py").is_file())
        arns = [f"arn:aws:lambda:{REGION}:123456789012:function:{name}" for name in ("Enqueue", "Deliver")]
        self.assertEqual(function["Environment"]["Variables"]["NEW_VERSIONS"].split(), [f"{arn}:1" for arn in arns])
        statements = made(part, "AWS::IAM::Role")["Role"]["Policies"][0]["PolicyDocument"]["Statement"]
        for arn in arns:
            self.assertTrue(allows(statements, "lambda:InvokeFunction", f"{arn}:7"))
        self.assertFalse(allows(statements, "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:123456789012:function:Other:7"))
        code = (ROOT / "infra" / function["Code"] / "index.py").read_text()
        for statement in statements:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                service, call = action.split(":")
                called = re.sub("(?<!^)([A-Z])", r"_\1", call).lower()
                self.assertTrue(service == "logs" or f".{called}(" in code or called == "invoke_function", action)


class Registry(unittest.TestCase):
    FUNCTIONS = ("Enqueue", "Deliver", "Fanout", "Archive", "Operate", "Endpoints", "Authorize", "Console", "Health", "Metrics",
                 "Cleanup")

    def statements(self, function, **values):
        """What the role of a function allows: what all share, and its own."""
        own = made(stack(**values), "AWS::IAM::Role")[f"{function}Role"]["Policies"]
        return [*shared_policy(**values), *(it for policy in own for it in policy["PolicyDocument"]["Statement"])]

    def test_the_tables_are_protected_and_their_rows_end(self):
        for name in ("RegistryTable", "HistoryTable"):
            with self.subTest(table=name):
                table = made(stack(), "AWS::DynamoDB::Table")[name]
                keys = [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
                self.assertEqual(keys, [("pk", "HASH"), ("sk", "RANGE")])
                self.assertEqual(table["BillingMode"], "PAY_PER_REQUEST")
                self.assertIs(table["DeletionProtectionEnabled"], True)
                self.assertIs(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], True)
                self.assertEqual(table["TimeToLiveSpecification"], {"AttributeName": "ttl", "Enabled": True})
                self.assertEqual(table["SSESpecification"], {"SSEEnabled": True, "SSEType": "KMS"})
                own_key = made(stack(KmsKeyArn=KEYS[0]), "AWS::DynamoDB::Table")[name]
                self.assertEqual(own_key["SSESpecification"]["KMSMasterKeyId"], KEYS[0])

    def test_each_function_has_its_own_permissions_for_the_registry(self):
        table = f"arn:aws:dynamodb:{REGION}:123456789012:table/RegistryTable"
        reads = {f"dynamodb:{call}" for call in ("GetItem", "BatchGetItem", "Query")}
        writes = {f"dynamodb:{call}Item" for call in ("Put", "Update", "Delete")}
        rest = {f"dynamodb:{call}" for call in ("Scan", "BatchWriteItem", "DeleteTable", "UpdateTable", "PartiQLSelect",
                                                    "ConditionCheckItem")}
        expected = {
            "Enqueue": {"dynamodb:BatchGetItem"}, "Deliver": {"dynamodb:BatchGetItem"},
            # It disables endpoints, and deletes those of a tenant that is erased.
            "Fanout": reads | writes, "Endpoints": reads | writes | {"dynamodb:ConditionCheckItem"},
            # It marks a tenant as erased.
            "Operate": reads | {"dynamodb:UpdateItem"},
            # Of the partition of tokens.
            "Authorize": {"dynamodb:BatchGetItem"},
        }
        for function in self.FUNCTIONS:
            statements = self.statements(function)
            allowed = {action for action in reads | writes | rest if allows(statements, action, table)}
            self.assertEqual(allowed, expected.get(function, set()), function)

    def test_only_what_signs_or_seals_gets_the_master_keys(self):
        read, wanted = "secretsmanager:GetSecretValue", {"authorize", "deliver", "endpoints"}
        secret = GIVEN["MasterKeysSecretArn"]
        readers = {name.lower() for name in self.FUNCTIONS if allows(self.statements(name), read, secret)}
        self.assertEqual(readers, wanted)
        plain = stack(MasterKeysSecretArn="", MasterKeys="A" * 43 + "=")
        self.assertEqual({name for name, it in plain.environments() if "MASTER_KEYS" in it}, wanted)
        self.assertEqual({name for name, it in stack().environments() if it.get("MASTER_KEYS_SECRET_ARN")}, wanted)

    def test_large_batches_need_time_to_fill(self):
        refused = lambda **values: [why for why in parameters.refused_by_rules(stack(**values)) if "BatchWindowS" in why]
        self.assertEqual(refused(), [])
        self.assertEqual(refused(BatchSize="10", BatchWindowS="1"), [])
        self.assertEqual(refused(BatchSize="100", BatchWindowS="1"), [])
        self.assertEqual(len(refused(BatchSize="11")), 1)

    def test_a_stack_without_master_keys_or_with_two_sources_is_refused(self):
        refused = lambda **values: [why for why in parameters.refused_by_rules(stack(**values)) if "MasterKeys" in why]
        self.assertEqual(refused(), [])
        self.assertEqual(refused(MasterKeysSecretArn="", MasterKeys="A" * 43 + "="), [])
        self.assertEqual(len(refused(MasterKeysSecretArn="")), 1)
        self.assertEqual(len(refused(MasterKeys="A" * 43 + "=")), 1)

    def test_master_keys_are_32_bytes_in_base64(self):
        key = "A" * 43 + "="
        template = parameters.load()
        refused = lambda keys: [*parameters.refused_by_cloudformation(template, {"MasterKeys": keys})]
        for keys in ("", key, f"{key} {key}", " ".join([key] * 16)):
            self.assertEqual(refused(keys), [], keys)
        for keys in ("A" * 32, "whsec_" + key, f"{key},{key}", f"{key}  {key}", f"{key} ", " ".join([key] * 17)):
            self.assertTrue(refused(keys), keys)

    def test_what_waits_or_is_slow_has_a_queue_and_a_concurrency_of_its_own(self):
        queues = made(stack(), "AWS::SQS::Queue")
        for name, other in (("Wait", "Slow"), ("Slow", "Wait")):
            self.assertEqual(queues[f"{name}Queue"], queues["RetryQueue"])
            mappings = {it["EventSourceArn"].rpartition(":")[2]: it
                        for it in made(stack(**{f"{name}Concurrency": "7"}), "AWS::Lambda::EventSourceMapping").values()}
            self.assertEqual(mappings[f"{name}Queue"]["ScalingConfig"], {"MaximumConcurrency": "7"})
            for queue in (f"{other}Queue", "RetryQueue"):
                self.assertEqual(mappings[queue]["ScalingConfig"], {"MaximumConcurrency": "2"})
        used = {"DeliveryConcurrency": "4", "RetryConcurrency": "2", "WaitConcurrency": "2", "SlowConcurrency": "2"}
        refused = lambda reserved: [*parameters.refused_by_lambda({**used, "DeliverReservedConcurrency": reserved})]
        self.assertEqual(len(refused("9")), 1)
        self.assertEqual(refused("10"), [])

    def test_the_table_is_watched(self):
        watched = Point28Alarms().watched()
        table = ("TableName", "RegistryTable")
        self.assertEqual(watched["RegistryThrottles"], {("ReadThrottleEvents", *table), ("WriteThrottleEvents", *table)})
        self.assertIn(("SystemErrors", *table), watched["RegistryErrors"])
        operations = {value for _, name, value in watched["RegistryErrors"] if name == "Operation"}
        single = {f"{call}Item" for call in ("BatchGet", "Get", "Put", "Update", "Delete")}
        self.assertEqual(operations, {*single, "Query", "TransactWriteItems"})

    def test_what_waits_on_purpose_pages_nobody(self):
        by_age = {value for metrics in Point28Alarms().watched().values() for metric, _, value in metrics
                  if metric == "ApproximateAgeOfOldestMessage"}
        queues = {f"{name}queue.queuename" for name in ("delivery", "retry", "event", "ingest")}
        self.assertEqual(by_age, queues)


class History(unittest.TestCase):
    TABLE = f"arn:aws:dynamodb:{REGION}:123456789012:table/HistoryTable"
    # Those who write rows or go by their lives. `endpoints` only counts what is owed.
    USERS = {"deliver", "fanout", "archive", "operate"}

    def may(self, resource):
        """What each function may do with a table or an index, without the functions that may do nothing."""
        calls = ("GetItem", "BatchGetItem", "Query", "Scan", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem",
                 "DeleteTable", "UpdateTable", "PartiQLSelect")
        found = {}
        for function in Registry.FUNCTIONS:
            statements = Registry().statements(function)
            found[function] = {call for call in calls if allows(statements, f"dynamodb:{call}", resource)}
        return {function: calls for function, calls in found.items() if calls}

    def test_the_deliveries_of_an_event_are_an_index(self):
        table = made(stack(), "AWS::DynamoDB::Table")["HistoryTable"]
        (index,) = table["GlobalSecondaryIndexes"]
        keys = [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]]
        self.assertEqual((index["IndexName"], keys), ("by_event", [("event", "HASH"), ("event_place", "RANGE")]))
        self.assertEqual(index["Projection"], {"ProjectionType": "ALL"})
        types = {it["AttributeName"]: it["AttributeType"] for it in table["AttributeDefinitions"]}
        self.assertEqual(types, dict.fromkeys(("pk", "sk", "event", "event_place"), "S"))

    def test_each_function_may_do_with_history_what_it_must_and_no_more(self):
        reads = {"GetItem", "BatchGetItem", "Query"}
        self.assertEqual(self.may(self.TABLE), {
            "Deliver": {"BatchWriteItem", "PutItem"}, "Archive": {"BatchWriteItem", "PutItem"},
            "Fanout": reads | {"BatchWriteItem", "PutItem", "UpdateItem", "DeleteItem"},
            "Operate": reads | {"PutItem", "UpdateItem"}, "Endpoints": {"Query"},
        })
        self.assertEqual(self.may(f"{self.TABLE}/index/by_event"), {"Fanout": {"Query"}, "Operate": {"Query"}})

    def test_dead_letters_of_what_is_erased_are_erased_by_fanout(self):
        may = self.may(f"arn:aws:dynamodb:{REGION}:123456789012:table/DeadLetterTable")
        self.assertEqual(may["Fanout"], {"GetItem", "PutItem", "UpdateItem", "DeleteItem"})
        fanout = dict(stack().environments())["fanout"]
        self.assertEqual((fanout["DEAD_LETTER_TABLE"], fanout["TTL_DEAD_LETTER_S"]), ("DeadLetterTable", "2592000"))

    def test_those_who_use_the_table_know_it_and_for_how_long(self):
        environments = dict(stack(HistoryDays="3").environments())
        users = {name for name, it in environments.items() if "HISTORY_TABLE" in it}
        self.assertEqual(users, self.USERS | {"endpoints"})
        days = {name: it["HISTORY_DAYS"] for name, it in environments.items() if "HISTORY_DAYS" in it}
        self.assertEqual(days, dict.fromkeys(self.USERS, "3"))

    def test_those_who_keep_or_end_what_is_owed_know_for_how_long(self):
        environments = dict(stack(OwedDays="3", DisableAfterH="24").environments())
        of = lambda name: {function: it[name] for function, it in environments.items() if name in it}
        self.assertEqual(of("OWED_DAYS"), dict.fromkeys({"deliver", "fanout", "cleanup"}, "3"))
        self.assertEqual(of("DISABLE_AFTER_H"), dict.fromkeys({"deliver", "fanout"}, "24"))

    def test_only_a_bus_that_is_named_may_be_told(self):
        bus = lambda name: f"arn:aws:events:{REGION}:123456789012:event-bus/{name}"
        may = lambda name, **values: {function for function in Registry.FUNCTIONS
                                      if allows(Registry().statements(function, **values), "events:PutEvents", bus(name))}
        self.assertEqual(may("ops"), set())
        self.assertEqual(may("ops", NotifyBusName="ops"), {"Fanout"})
        self.assertEqual(may("other", NotifyBusName="ops"), set())
        self.assertEqual(dict(stack(NotifyBusName="ops").environments())["fanout"]["NOTIFY_BUS"], "ops")

    def test_history_may_be_kept_for_no_day_and_for_a_month(self):
        template = parameters.load()
        refused = lambda days: [*parameters.refused_by_cloudformation(template, {"HistoryDays": days})]
        self.assertEqual(template["Parameters"]["HistoryDays"]["Default"], 7)
        for days in ("0", "7", "30"):
            self.assertEqual(refused(days), [], days)
        for days in ("-1", "31", "x"):
            self.assertTrue(refused(days), days)

    def test_rows_that_the_table_refuses_for_a_quarter_of_an_hour_are_told(self):
        alarm = made(nested("Alarms", WarningTopicArn="arn:w"), "AWS::CloudWatch::Alarm")["HistoryRowsRefused"]
        told = (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"])
        self.assertEqual(told, ("history_rows_refused_total", "Sum", 0))
        self.assertEqual(alarm["EvaluationPeriods"] * alarm["Period"], 15 * 60)
        self.assertNotIn("DatapointsToAlarm", alarm)
        self.assertEqual(alarm["AlarmActions"], ["arn:w"])

    def test_the_output_names_the_table(self):
        self.assertEqual(stack().output("HistoryTableName"), "HistoryTable")


class Events(unittest.TestCase):
    INGEST = f"arn:aws:sqs:{REGION}:123456789012:IngestQueue"
    OWN = "123456789012"
    DEAD = f"arn:aws:sqs:{REGION}:123456789012:IngestDeadLetterQueue"
    BUS = {"IngestBusName": "shop", "IngestPattern": '{"source": ["shop"], "detail": {"total": [{"numeric": [">", 5]}]}}'}

    def senders(self, queue="IngestQueue", **values):
        """Whether a principal may do something with a queue, as its policy says."""
        policy = made(stack(**values), "AWS::SQS::QueuePolicy")[f"{queue}Policy"]
        self.assertEqual(policy["Queues"], [f"https://sqs.{REGION}.amazonaws.com/123456789012/{queue}"])
        as_list = lambda value: value if isinstance(value, list) else [value]

        def named(principal):
            return ["*"] if principal == "*" else [name for names in principal.values() for name in as_list(names)]

        def may(principal, action="sqs:SendMessage", account=None, tls="true"):
            context = {"aws:SecureTransport": tls, **({"aws:SourceAccount": account} if account else {})}
            statements = policy["PolicyDocument"]["Statement"]
            about = [it for it in statements if {"*", principal} & set(named(it["Principal"]))]
            return allows(about, action, f"arn:aws:sqs:{REGION}:123456789012:{queue}", **context)

        return may

    def test_fanout_may_send_to_the_queue_that_triggers_it(self):
        # The local AWS stops no loop.
        functions = of_type(translated(), "AWS::Lambda::Function")
        self.assertEqual({name for name, it in functions.items() if it.get("RecursiveLoop") == "Allow"}, {"Deliver", "Fanout"})

    def test_fanout_has_six_times_its_timeout_and_each_queue_a_concurrency_of_its_own(self):
        queues, root = made(stack(), "AWS::SQS::Queue"), stack(FanoutConcurrency="7", IngestConcurrency="3")
        timeout = made(root, "AWS::Serverless::Function")["Fanout"]["Timeout"]
        mappings = {it["EventSourceArn"].rpartition(":")[2]: it
                    for it in made(root, "AWS::Lambda::EventSourceMapping").values() if it["FunctionName"] == "Fanout"}
        self.assertEqual(set(mappings), {"EventQueue", "IngestQueue"})
        for name, concurrency in (("EventQueue", "7"), ("IngestQueue", "3")):
            self.assertEqual(queues[name]["VisibilityTimeout"], 6 * timeout)
            dead = self.DEAD if name == "IngestQueue" else f"arn:aws:sqs:{REGION}:123456789012:DeadLetterQueue"
            own = {"VisibilityTimeout": 6 * timeout, "RedrivePolicy": {"deadLetterTargetArn": dead, "maxReceiveCount": 100}}
            self.assertEqual({**queues["RetryQueue"], **own}, queues[name])
            self.assertEqual(mappings[name]["ScalingConfig"], {"MaximumConcurrency": concurrency})
            self.assertEqual(mappings[name]["FunctionResponseTypes"], ["ReportBatchItemFailures"])
            self.assertEqual(parameters.load()["Resources"][name]["DeletionPolicy"], "Retain")

    def test_topics_and_rules_of_this_account_may_send_events_and_nobody_else(self):
        may = self.senders()
        for service in ("sns.amazonaws.com", "events.amazonaws.com"):
            self.assertTrue(may(service, account=self.OWN), service)
            self.assertFalse(may(service), service)
            self.assertFalse(may(service, account="210987654321"), service)
            self.assertFalse(may(service, action="sqs:ReceiveMessage", account=self.OWN), service)
            self.assertFalse(may(service, account=self.OWN, tls="false"), service)
        for other in ("s3.amazonaws.com", "210987654321"):
            self.assertFalse(may(other, account=self.OWN), other)

    def test_others_may_send_if_they_are_named(self):
        role = "arn:aws:iam::210987654321:role/shop"
        self.assertFalse(self.senders()(role))
        may = self.senders(IngestPrincipals=f"{role},345678901234")
        for principal in (role, "345678901234"):
            self.assertTrue(may(principal))
            self.assertFalse(may(principal, tls="false"))
            self.assertFalse(may(principal, action="sqs:ReceiveMessage"))
        self.assertFalse(may("456789012345"))

    def test_no_other_queue_lets_others_in(self):
        policies = {"IngestQueuePolicy", "IngestDeadLetterQueuePolicy"}
        self.assertEqual(set(made(stack(**MADE), "AWS::SQS::QueuePolicy")), policies)

    def test_what_others_wrote_has_a_dead_letter_queue_of_its_own(self):
        root = stack()
        queues = made(root, "AWS::SQS::Queue")
        self.assertEqual(queues["IngestDeadLetterQueue"], queues["DeadLetterQueue"])
        self.assertEqual(parameters.load()["Resources"]["IngestDeadLetterQueue"]["DeletionPolicy"], "Retain")
        fed = {name for name, queue in queues.items() if queue.get("RedrivePolicy", {}).get("deadLetterTargetArn") == self.DEAD}
        self.assertEqual(fed, {"IngestQueue"})
        mappings = made(root, "AWS::Lambda::EventSourceMapping")
        ours, theirs = mappings["ArchiveFromDeadLetterQueue"], mappings["ArchiveFromIngestDeadLetterQueue"]
        self.assertEqual({**ours, "EventSourceArn": self.DEAD}, theirs)
        arns = {name: it.get("INGEST_DEAD_LETTER_QUEUE_ARN") for name, it in root.environments()}
        self.assertEqual({name: arn for name, arn in arns.items() if arn}, {"archive": self.DEAD})
        for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
            may = {name for name in Registry.FUNCTIONS if allows(Registry().statements(name), action, self.DEAD)}
            self.assertEqual(may, {"Archive"}, action)
        self.assertFalse([name for name in Registry.FUNCTIONS
                          if allows(Registry().statements(name), "sqs:SendMessage", self.DEAD)])

    def test_rules_of_this_account_may_send_what_they_could_not_deliver(self):
        role = "arn:aws:iam::210987654321:role/shop"
        may = self.senders("IngestDeadLetterQueue", IngestPrincipals=role)
        service = "events.amazonaws.com"
        self.assertTrue(may(service, account=self.OWN))
        self.assertFalse(may(service))
        self.assertFalse(may(service, account="210987654321"))
        self.assertFalse(may(service, action="sqs:ReceiveMessage", account=self.OWN))
        self.assertFalse(may(service, account=self.OWN, tls="false"))
        for other in ("sns.amazonaws.com", role):
            self.assertFalse(may(other, account=self.OWN), other)

    def test_names_of_producers_have_no_wildcards(self):
        template = parameters.load()
        refused = lambda name, value: [*parameters.refused_by_cloudformation(template, {name: value})]
        role = "arn:aws:iam::210987654321:role/path/shop"
        for value in ("", "210987654321", role, f"{role},210987654321", "arn:aws:iam::210987654321:root"):
            self.assertEqual(refused("IngestPrincipals", value), [], value)
        for value in ("*", "21098765432", "arn:aws:iam::210987654321:*", f"{role},", f"{role}, {role}", "shop",
                      "arn:aws:iam::*:role/shop", "arn:aws:sns:eu-central-1:210987654321:topic"):
            self.assertTrue(refused("IngestPrincipals", value), value)
        for value in ("default", "a", "A_-9", "x" * 64):
            self.assertEqual(refused("IngestTenant", value), [], value)
        for value in ("", "_operator", "-a", "a.b", "x" * 65):
            self.assertTrue(refused("IngestTenant", value), value)
        for value in ("[]", "x", '{"a"', '"a"'):
            self.assertTrue(refused("IngestPattern", value), value)

    def test_a_bus_and_a_pattern_make_a_rule_and_one_alone_is_refused(self):
        self.assertNotIn("IngestRule", made(stack(), "AWS::Events::Rule"))
        rule = made(stack(**self.BUS), "AWS::Events::Rule")["IngestRule"]
        self.assertEqual((rule["EventBusName"], rule["EventPattern"]), tuple(self.BUS.values()))
        targets = [(target["Arn"], target["DeadLetterConfig"]) for target in rule["Targets"]]
        self.assertEqual(targets, [(self.INGEST, {"Arn": self.DEAD})])
        # A string of JSON is taken for an event pattern.
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, "AWS::Events::Rule").schema
        self.assertIn("string", schema["properties"]["EventPattern"]["type"])
        refused = lambda **values: [why for why in parameters.refused_by_rules(stack(**values)) if "IngestBusName" in why]
        self.assertEqual(refused(), [])
        self.assertEqual(refused(**self.BUS), [])
        for name in self.BUS:
            self.assertEqual(len(refused(**{**self.BUS, name: ""})), 1)
        # It is given to `sam deploy` in quotes.
        pattern = self.BUS["IngestPattern"].replace('"', '\\"')
        self.assertIn(f'IngestPattern="{pattern}"', parameters.overrides(self.BUS))

    def test_each_function_that_sends_has_the_queue_of_events(self):
        url = f"https://sqs.{REGION}.amazonaws.com/123456789012/EventQueue"
        environments = dict(stack().environments())
        for name, variables in environments.items():
            self.assertEqual(variables.get("EVENT_QUEUE_URL"), url if "WAIT_QUEUE_URL" in variables else None, name)
            self.assertEqual("TTL_EVENT_S" in variables, "TTL_UNFINISHED_S" in variables, name)
        self.assertEqual(environments["fanout"]["INGEST_QUEUE_ARN"], self.INGEST)
        sends = f"arn:aws:sqs:{REGION}:123456789012:EventQueue"
        may = {name for name in Registry.FUNCTIONS if allows(Registry().statements(name), "sqs:SendMessage", sends)}
        self.assertEqual(may, {"Enqueue", "Fanout", "Operate", "Endpoints", "Deliver", "Cleanup"})

    def test_events_that_wait_are_told_and_page_later(self):
        alarms = made(nested("Alarms"), "AWS::CloudWatch::Alarm")
        for queue in ("EventQueue", "IngestQueue"):
            old, stuck = alarms[f"{queue}Old"], alarms[f"{queue}Stuck"]
            self.assertEqual((old["Threshold"], stuck["Threshold"]), (300, 1800))
            self.assertEqual(old["Dimensions"], stuck["Dimensions"])
            self.assertEqual(stuck["AlarmActions"], [MADE["CriticalTopicArn"]])

    def test_events_that_had_to_wait_for_a_quarter_of_an_hour_are_told(self):
        alarm = made(nested("Alarms", WarningTopicArn="arn:w"), "AWS::CloudWatch::Alarm")["EventsWait"]
        self.assertEqual((alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]), ("event_waits_total", "Sum", 0))
        self.assertEqual(alarm["EvaluationPeriods"] * alarm["Period"], 15 * 60)
        self.assertNotIn("DatapointsToAlarm", alarm)
        self.assertEqual(alarm["AlarmActions"], ["arn:w"])

    def test_dead_letters_of_others_that_stay_page(self):
        alarms = made(nested("Alarms"), "AWS::CloudWatch::Alarm")
        ours, theirs = alarms["DeadLetterQueueNotDrained"], alarms["IngestDeadLetterQueueNotDrained"]
        of = lambda alarm: {key: value for key, value in alarm.items() if key not in (
            "AlarmName", "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Statistic", "Period", "Metrics")}
        self.assertEqual(of(ours), of(theirs))
        queue = ("QueueName", "ingestdeadletterqueue.queuename")
        metrics = {(f"ApproximateNumberOfMessages{state}", *queue) for state in ("Visible", "NotVisible")}
        self.assertEqual(Point28Alarms().watched()["IngestDeadLetterQueueNotDrained"], metrics)


class Routes(unittest.TestCase):
    def routes(self):
        return of_type(parameters.load(), "AWS::ApiGatewayV2::Route")

    def test_every_operation_of_the_contract_has_a_route(self):
        contract = parameters.load(ROOT / "infra" / "openapi.yaml")["paths"]
        methods = ("get", "put", "post", "patch", "delete")
        operations = {f"{method.upper()} {path}" for path, of in contract.items() for method in methods if method in of}
        self.assertGreaterEqual(len(operations), 13)
        self.assertEqual(operations - {it["RouteKey"] for it in self.routes().values()}, set())

    def test_a_key_that_stands_twice_is_refused(self):
        # YAML would take the last one, and so would the validator of the contract.
        contract = (ROOT / "infra" / "openapi.yaml").read_text()
        yaml.load(contract, parameters.Loader)
        head = "    EventId: {"
        self.assertEqual(contract.count(head), 1)
        for twice in ("a: 1\na: 2", "a: { b: 1, b: 2 }", "a: !If [x, { b: 1, b: 2 }, y]",
                      contract.replace(head, f"    EventId: {{}}\n{head}")):
            with self.assertRaisesRegex(yaml.constructor.ConstructorError, "stands twice"):
                yaml.load(twice, parameters.Loader)

    def test_history_and_what_changes_it_is_served_by_operate(self):
        tenant, operate = "/tenants/{tenant}", {"Fn::Sub": "integrations/${OperateIntegration}"}
        event, endpoint = f"{tenant}/events/{{event}}", f"{tenant}/endpoints/{{endpoint}}"
        targets = {it["RouteKey"]: it["Target"] for it in self.routes().values()}
        for key in (
            f"GET {tenant}/events", f"GET {event}/deliveries", f"GET {event}/deliveries/{{endpoint}}",
            f"POST {event}/deliveries/{{endpoint}}/resend", f"GET {endpoint}/deliveries", "GET /deliveries/recent",
            "GET /metrics/recent", f"POST {endpoint}/replays", f"GET {tenant}/replays/{{replay}}",
            f"DELETE {tenant}/replays/{{replay}}", f"DELETE {event}/payload", f"DELETE {tenant}",
        ):
            self.assertEqual(targets.get(key), operate, key)
        # The same paths with other methods.
        self.assertEqual(targets[f"POST {tenant}/events"], {"Fn::Sub": "integrations/${EnqueueIntegration}"})
        self.assertEqual(targets[f"GET {tenant}"], {"Fn::Sub": "integrations/${EndpointsIntegration}"})

    def test_there_is_room_for_as_many_routes_again(self):
        # A gateway has 300.
        self.assertLessEqual(2 * (len(self.routes()) + len(self.routes_for_tokens())), 300)

    # Who asks there has no token yet.
    OPEN = {"GET /console", "GET /console/{proxy+}", "GET /console/links/{hash}", "POST /console/sessions"}

    def test_each_route_is_one_of_a_kind_and_asks_who_calls(self):
        routes = self.routes()
        self.assertEqual(len({it["RouteKey"] for it in routes.values()}), len(routes))
        for name, route in routes.items():
            if route["RouteKey"] in self.OPEN:
                self.assertEqual(route["AuthorizationType"], "NONE", name)
            else:
                auth = "HealthAuth" if name == "GetHealth" else "ApiAuth"
                self.assertEqual(route["AuthorizationType"], {"Ref": auth}, name)

    def routes_for_tokens(self):
        return of_type(parameters.load(ROOT / "infra" / "token-api.yaml"), "AWS::ApiGatewayV2::Route")

    def test_each_route_stands_a_second_time_for_tokens_behind_the_gate(self):
        inner = lambda key: key.replace(" /api/", " /")
        target = lambda route: route["Target"]["Fn::Sub"]
        expected = {it["RouteKey"]: target(it) for it in self.routes().values()
                    if it["RouteKey"] not in self.OPEN | {"$default"}}
        routes = self.routes_for_tokens()
        self.assertEqual({inner(it["RouteKey"]): target(it) for it in routes.values()}, expected)
        for name, route in routes.items():
            self.assertTrue(route["RouteKey"].split(" ")[1].startswith("/api/"), name)
            self.assertEqual((route["AuthorizationType"], route["AuthorizerId"]), ("CUSTOM", {"Ref": "Gate"}), name)

    def test_the_gate_is_asked_about_every_request(self):
        template = parameters.load(ROOT / "infra" / "token-api.yaml")["Resources"]
        gate = template["Gate"]["Properties"]
        self.assertEqual((gate["AuthorizerType"], gate["AuthorizerPayloadFormatVersion"]), ("REQUEST", "2.0"))
        self.assertEqual(gate["IdentitySource"], ["$request.header.Authorization"])
        self.assertEqual(gate["AuthorizerResultTtlInSeconds"], 0)
        self.assertIs(gate["EnableSimpleResponses"], True)
        # The local AWS asks for no permission, and waits for ever.
        permission = template["GatePermission"]["Properties"]
        self.assertEqual((permission["Action"], permission["Principal"]),
                         ("lambda:InvokeFunction", "apigateway.amazonaws.com"))
        self.assertTrue(permission["SourceArn"]["Fn::Sub"].endswith("${ApiId}/authorizers/${Gate}"))
        self.assertLess(parameters.load()["Resources"]["Authorize"]["Properties"]["Timeout"], 10)

    def test_the_gate_reads_one_partition(self):
        reads = [it for it in Registry().statements("Authorize") if "dynamodb:BatchGetItem" in it["Action"]]
        self.assertEqual([it["Condition"] for it in reads],
                         [{"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["TOKENS"]}}])

    def test_open_routes_and_those_for_tokens_have_throttles_of_their_own(self):
        stage = stack().template["Resources"]["Stage"]
        ours = {it["RouteKey"] for it in self.routes_for_tokens().values()}
        settings = stage["Properties"]["RouteSettings"]
        self.assertEqual(set(settings), ours | self.OPEN | {"GET /health"})
        for key, limits in settings.items():
            self.assertLessEqual(limits["ThrottlingRateLimit"], 100, key)
        # API Gateway refuses settings of a route that does not exist yet.
        for name, route in self.routes().items():
            if route["RouteKey"] in settings:
                self.assertIn(name, stage["DependsOn"])
        self.assertIn("TokenApi", stage["DependsOn"])

    def test_the_console_is_framed_by_nobody_unless_that_is_said(self):
        ancestors = lambda **values: dict(stack(**values).environments())["console"]["PORTAL_FRAME_ANCESTORS"]
        self.assertEqual(ancestors(), "'none'")
        self.assertEqual(ancestors(PortalFrameAncestors="https://a.example"), "https://a.example")
        refused = lambda value: [*parameters.refused_by_cloudformation(parameters.load(), {"PortalFrameAncestors": value})]
        for good in ("'none'", "'self'", "https://a.example", "https://a.example:8443 https://*.b.example"):
            self.assertEqual(refused(good), [], good)
        for bad in ("", "*", "a.example", "https://a.example/", "https://a.example; script-src *", "https://a.example,https://b.example"):
            self.assertTrue(refused(bad), bad)


class Size(unittest.TestCase):
    def test_templates_go_through_s3_and_fit_there(self):
        for name in ("template.yaml", "infra/alarms.yaml", "infra/cache.yaml", "infra/network.yaml", "infra/rollback.yaml",
                     "infra/start-check.yaml", "infra/token-api.yaml"):
            self.assertLessEqual((ROOT / name).stat().st_size, TEMPLATE_BYTES, name)
        # With a bucket, `sam deploy` uploads the template itself as well as nested ones.
        config = tomllib.loads((ROOT / "samconfig.toml").read_text())
        self.assertIs(config["default"]["deploy"]["parameters"]["resolve_s3"], True)
        self.assertTrue(config["local"]["deploy"]["parameters"]["s3_bucket"])

    def test_the_settings_of_each_function_leave_room_for_long_ones(self):
        # Real names of queues and tables are longer than those that stand in for them here: `-` and 12 characters.
        sizes = {}
        for name, variables in stack(**MADE, KmsKeyArn=KEYS[0]).environments():
            longer = 30 * sum("QUEUE" in key or "TABLE" in key for key in variables)
            sizes[name] = longer + sum(len(key) + len(value) for key, value in variables.items())
        self.assertLessEqual(max(sizes.values()), parameters.ENVIRONMENT_BYTES // 2, sizes)


if __name__ == "__main__":
    # The translator warns of settings of its own.
    logging.disable(logging.WARNING)
    unittest.main()
