#!/usr/bin/env python3
"""The local stack: redis-server, a local AWS, and the template deployed to it.

    stack.py up [Name=value ...]   start what is not running, deploy, write stack.env
    stack.py watch [prometheus]    start the sidecar on port 8000, and Prometheus with the project's rules
    stack.py redis stop|start      stop redis-server, or start it again without data
    stack.py aws restart           restart the local AWS; it keeps its state
    stack.py code DIR              replace the binaries of the running functions
    stack.py down                  stop only the processes that `up` started

Needs boto3, which is installed in the virtual environment of the local AWS.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import boto3
from botocore.config import Config

import parameters as template

ROOT = Path(__file__).resolve().parents[2]
LOCAL = Path(os.environ.get("STEADHOOK_LOCAL", ROOT / ".local")).resolve()
VENVS = ROOT / ".local" / "venvs"
ENV = LOCAL / "stack.env"
# Where `make build` puts the binaries.
BUILT = ROOT / "target" / "debug"
# The same, packed for Lambda.
PACKED = ROOT / "target" / "local"
FUNCTIONS = sorted(path.name for path in (ROOT / "functions").iterdir() if (path / "Cargo.toml").is_file())
STACK = "steadhook"
REGION = "eu-central-1"
BUCKET = "steadhook-code"
STARTED = time.monotonic()
# Whether the local AWS enforces IAM.
GUARDED = os.environ.get("STEADHOOK_GUARDED") == "true"
# Do not use a proxy for local services.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost,::1"]))


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def fail(text):
    sys.exit(f"stack.py: {text}")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A process that `up` starts and `down` stops. Its file holds the process id and the
    start time, because another process may get the same id later."""

    def __init__(self, name):
        self.name = name
        self.file = LOCAL / "run" / f"{name}.pid"
        self.log = LOCAL / "log" / f"{name}.log"

    @staticmethod
    def _born(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] == "Z" else fields[19]
        return None

    def running(self):
        """The process id and port of the running process, or None."""
        with contextlib.suppress(OSError, ValueError):
            pid, born, port = self.file.read_text().split()
            if self._born(pid) == born:
                return int(pid), int(port)
        return None

    def start(self, port, command, env=None):
        for path in (self.file, self.log):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(env or {})})
        self.file.write_text(f"{process.pid} {self._born(process.pid)} {port}\n")
        return process

    def stop(self):
        found = self.running()
        if found:
            pid, _ = found
            # The process has its own session, so this stops its children, too.
            for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, sign)
                until = time.monotonic() + patience
                while self.running() and time.monotonic() < until:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                    time.sleep(0.05)
                if not self.running():
                    break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            say(f"{self.name} stopped")
        self.file.unlink(missing_ok=True)


def wait_for(what, process, log, ready, patience=60):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.05)
    fail(f"{what} did not start. The end of {log}:\n{log.read_text(errors='replace')[-2000:]}")


def answers(url):
    """Whether a service answers 200."""
    with urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200


def start_redis(port=None):
    service = Service("redis")
    found = service.running()
    if found:
        return found[1]
    binary = shutil.which("redis-server") or fail("redis-server is missing. Run `make setup` to install it.")
    port = port or int(os.environ.get("REDIS_PORT") or free_port())
    data = LOCAL / "redis"
    data.mkdir(parents=True, exist_ok=True)
    process = service.start(port, [
        binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", "", "--appendonly", "no"])

    def ready():
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    wait_for("redis-server", process, service.log, ready)
    say(f"redis-server is running on port {port}")
    return port


def start_aws(port=None):
    service = Service("ministack")
    found = service.running()
    if found:
        return found[1]
    state = LOCAL / "aws"
    if not port:
        shutil.rmtree(state, ignore_errors=True)
    port = port or int(os.environ.get("AWS_PORT") or free_port())
    endpoint = f"http://127.0.0.1:{port}"
    process = service.start(port, [str(VENVS / "ministack" / "bin" / "python"), str(ROOT / "infra" / "local" / "aws.py")], env={
        "AUTH": "true" if GUARDED else "false", "GATEWAY_PORT": str(port), "AWS_ENDPOINT_URL": endpoint, "IOT_MTLS_ENABLED": "0",
        "AWS_DEFAULT_REGION": REGION, "MINISTACK_REGION": REGION, "PERSIST_STATE": "1", "STATE_DIR": str(state)})

    wait_for("the local AWS", process, service.log, lambda: answers(f"{endpoint}/_ministack/health"))
    say(f"the local AWS is running on port {port}")
    return port


def client(name, endpoint):
    return boto3.client(
        name, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 3}, connect_timeout=5, read_timeout=30))


def pack(built, packed, names=FUNCTIONS):
    """Packs the binaries of `make build` for Lambda. Those that did not change are packed already: to compress all of
    them takes longer than the rest of a deployment."""
    packed.mkdir(parents=True, exist_ok=True)
    for name in names:
        source, target = built / name, packed / f"{name}.zip"
        if not source.is_file():
            fail(f"{source} is missing. Run `make build` to create it.")
        changed = source.stat().st_mtime_ns
        if target.is_file() and target.stat().st_mtime_ns == changed:
            continue
        # Replace the file in one step: another stack may be reading the old one.
        stripped, fresh = packed / f".{name}.{os.getpid()}", packed / f".{name}.{os.getpid()}.zip"
        subprocess.run(["strip", "--strip-all", "-o", str(stripped), str(source)], check=True)
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(stripped, "bootstrap")
        stripped.unlink()
        os.utime(fresh, ns=(changed, changed))
        fresh.replace(target)


def made_once(name, prefix=""):
    """A random secret of 32 bytes. It is made once, so that a second `up` finds what the first one wrote."""
    kept = LOCAL / name
    if not kept.is_file():
        kept.touch(mode=0o600)
        kept.write_text(prefix + base64.b64encode(secrets.token_bytes(32)).decode())
    return kept.read_text().strip()


def local_template():
    """Writes a copy of the template for the local AWS, which does not support CodeDeploy."""
    text = (ROOT / "template.yaml").read_text()
    text = re.sub(r"      AutoPublishAlias: live\n      AutoPublishCodeSha256: .*\n      DeploymentPreference:\n(?:        .*\n)+", "", text)
    # Without CodeDeploy, nothing calls the check of a new version.
    text = re.sub(r"  StartCheck:\n(?:    .*\n)+", "", text)
    text = text.replace("IntegrationUri: !Ref Enqueue.Alias", "IntegrationUri: !GetAtt Enqueue.Arn")
    text = text.replace(".Alias\n", "\n")
    text = re.sub(r"!GetAtt \w+\.Version\.Version", "$LATEST", text)
    # On AWS, sqs:SendMessage also allows batches. The local AWS has a separate permission.
    text = text.replace('Action: "sqs:SendMessage"', 'Action: ["sqs:SendMessage", "sqs:SendMessageBatch"]')
    # The local AWS has no TLS, and obeys a policy that wants it.
    text = re.sub(r'          - Effect: Deny\n            Principal: "\*"\n(?:            .*\n)+', "", text)
    text = re.sub(r"CodeUri: target/lambda/(\w+)", rf"CodeUri: {PACKED}/\1.zip", text)
    text = re.sub(r"TemplateURL: ", rf"TemplateURL: {ROOT}/", text)
    # A test may have a proxy before DynamoDB.
    if proxy := os.environ.get("STEADHOOK_DYNAMODB"):
        name = "        STACK_NAME: !Ref AWS::StackName\n"
        text = text.replace(name, f"{name}        AWS_ENDPOINT_URL_DYNAMODB: {proxy}\n", 1)
    path = LOCAL / "run" / "template.yaml"
    path.write_text(text)
    return path


def deploy(endpoint, parameters):
    with contextlib.suppress(client("s3", endpoint).exceptions.BucketAlreadyOwnedByYou):
        client("s3", endpoint).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    overrides = template.overrides(parameters)
    is_update = exists(endpoint)
    log = LOCAL / "log" / "deploy.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [str(VENVS / "sam" / "bin" / "sam"), "deploy", "--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local", "--region", REGION,
             "--template-file", str(local_template()), "--parameter-overrides", *overrides],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test",
                 "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION, "SAM_CLI_TELEMETRY": "0"})
    if done.returncode != 0:
        fail(f"sam deploy failed. The end of {log}:\n{log.read_text(errors='replace')[-4000:]}")
    # The local AWS stores a number from a parameter as text, and its poller cannot read
    # that. Set the number again. AWS does not need this.
    functions = client("lambda", endpoint)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if "ScalingConfig" in mapping:
            most = int(mapping["ScalingConfig"]["MaximumConcurrency"])
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": most})
    # The local AWS keeps instances with the former settings until their code is replaced. AWS does not.
    if is_update:
        replace_code(endpoint, PACKED, FUNCTIONS)
    stack = client("cloudformation", endpoint).describe_stacks(StackName=STACK)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    set_ttl(endpoint, outputs)
    return outputs


def exists(endpoint):
    try:
        return bool(client("cloudformation", endpoint).describe_stacks(StackName=STACK)["Stacks"])
    except client("cloudformation", endpoint).exceptions.ClientError:
        return False


def set_ttl(endpoint, outputs):
    """Sets the TTL attributes of the tables. The local AWS ignores those of the template."""
    tables, ours = client("dynamodb", endpoint), template.load()
    for output, of in ours["Outputs"].items():
        resource = ours["Resources"].get(of["Value"].get("Ref"), {})
        if resource.get("Type") == "AWS::DynamoDB::Table":
            attribute = resource["Properties"]["TimeToLiveSpecification"]["AttributeName"]
            wanted = {"AttributeName": attribute, "Enabled": True}
            tables.update_time_to_live(TableName=outputs[output], TimeToLiveSpecification=wanted)


def callers(endpoint, api_id):
    """Creates two users: an operator who may call the API, and a stranger without permissions."""
    iam = client("iam", endpoint)
    account = client("sts", endpoint).get_caller_identity()["Account"]
    lines = {}
    for name in ("operator", "stranger"):
        iam.create_user(UserName=name)
        if name == "operator":
            policy = {"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "execute-api:Invoke",
                "Resource": f"arn:aws:execute-api:{REGION}:{account}:{api_id}/*"}]}
            iam.put_user_policy(UserName=name, PolicyName="call", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        lines[f"{name.upper()}_USER"] = f"{key['AccessKeyId']}:{key['SecretAccessKey']}"
    return lines


def chosen(given, redis_url):
    """The parameters of a local stack. Those that are given win."""
    # Pass the defaults as well: an update keeps the previous value of a missing parameter.
    return {
        **template.defaults(template.load()),
        "RedisUrl": redis_url,
        "SigningSecrets": made_once("signing-secret", "whsec_"),
        "MasterKeys": made_once("master-key"),
        "AllowedPrivateCidrs": "127.0.0.0/8,::1/128",
        "ApiAuth": "AWS_IAM" if GUARDED else "NONE",
        "Architecture": "x86_64",
        "Release": "1" * 64,
        **given,
    }


def up(arguments):
    given, faults = template.parse(arguments)
    LOCAL.mkdir(parents=True, exist_ok=True)
    # Check before anything starts.
    faults += template.faults(chosen(given, "redis://127.0.0.1:6379"))
    if faults:
        fail("nothing was started, because of the parameters:\n" + "\n".join(f"  {fault}" for fault in faults))
    (LOCAL / "log").mkdir(exist_ok=True)
    pack(BUILT, PACKED)
    redis_url = f"redis://127.0.0.1:{start_redis()}"
    endpoint = f"http://127.0.0.1:{start_aws()}"
    parameters = chosen(given, redis_url)
    say("deploying the template")
    outputs = deploy(endpoint, parameters)
    lines = {
        # What the sidecar reads, as the template gives it to the function that shows the same metrics.
        **metrics_settings(endpoint),
        "API_URL": f"{endpoint}/_aws/execute-api/{outputs['ApiId']}/$default",
        "STEADHOOK_STACK_NAME": STACK,
        "STEADHOOK_SECRETS": parameters["SigningSecrets"],
        "REDIS_URL": parameters["RedisUrl"],
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "INGEST_QUEUE_URL": outputs["IngestQueueUrl"],
        "INGEST_DEAD_LETTER_QUEUE_URL": outputs["IngestDeadLetterQueueUrl"],
        "DEAD_LETTER_TABLE": outputs["DeadLetterTable"],
        "REGISTRY_TABLE": outputs["RegistryTable"],
        "HISTORY_TABLE": outputs["HistoryTableName"],
        "SIGNING_SECRETS": parameters["SigningSecrets"],
        "MASTER_KEYS": parameters["MasterKeys"],
        "STACK_NAME": STACK,
    }
    if GUARDED:
        # A signature covers the path, so callers need the URL with the host name of the API.
        port = endpoint.rpartition(":")[2]
        lines["API_URL"] = f"http://{outputs['ApiId']}.execute-api.localhost:{port}"
        lines |= callers(endpoint, outputs["ApiId"])
    write_env({**lines, "STEADHOOK_URL": lines["API_URL"]})
    say(f"the stack is running. Its addresses are in {shown(ENV)}")


def shown(path):
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def metrics_settings(endpoint):
    """The settings of the function that shows the metrics."""
    functions = client("lambda", endpoint)
    for function in functions.list_functions()["Functions"]:
        if function["FunctionName"].startswith(f"{STACK}-Metrics-"):
            return {name: value for name, value in function["Environment"]["Variables"].items() if name.isupper()}
    fail("the stack has no function Metrics")


def write_env(lines):
    """Writes stack.env, for a shell to source: after that, `steadhook` is a command."""
    ENV.touch(mode=0o600)
    exports = "".join(f"export {name}='{value}'\n" for name, value in lines.items())
    ENV.write_text(exports + f'case ":$PATH:" in *:"{BUILT}":*) ;; *) export PATH="{BUILT}:$PATH" ;; esac\n')


def read_env():
    with contextlib.suppress(OSError):
        return dict(re.findall(r"^export (\w+)='(.*)'$", ENV.read_text(), re.MULTILINE))
    fail("the local stack is not running. Run `make up` to start it.")


def watch(with_prometheus):
    """Starts the sidecar, which shows metrics to a Prometheus that cannot sign, and perhaps such a Prometheus."""
    env = read_env()
    # One that runs goes on, with the addresses of this deployment.
    with_prometheus = with_prometheus or Service("prometheus").running()
    for name in ("sidecar", "prometheus"):
        Service(name).stop()
    env["METRICS_URL"] = f"http://127.0.0.1:{start_sidecar(env)}/metrics"
    if with_prometheus:
        env["PROMETHEUS_URL"] = f"http://127.0.0.1:{start_prometheus(env['METRICS_URL'])}"
    write_env(env)


def start_sidecar(env):
    port = 8000 if is_free(8000) else free_port()
    service = Service("sidecar")
    process = service.start(port, [str(BUILT / "sidecar")], env={**env, "LISTEN_ADDRESS": f"127.0.0.1:{port}"})

    wait_for("the sidecar", process, service.log, lambda: answers(f"http://127.0.0.1:{port}/-/healthy"))
    say(f"the sidecar shows metrics on http://127.0.0.1:{port}/metrics" + ("" if port == 8000 else ", because port 8000 is taken"))
    return port


def start_prometheus(metrics_url):
    binary = shutil.which("prometheus") or fail("prometheus is missing. Run `infra/local/setup.sh watch` to install it.")
    rules = ROOT / "infra" / "prometheus"
    text = (rules / "prometheus.yml").read_text()
    text = text.replace("localhost:8000", metrics_url.removeprefix("http://").removesuffix("/metrics"))
    # Nobody is told by a local stack.
    text = re.sub(r"^alerting:\n(?:[ #].*\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(  - )([\w-]+-rules\.yml)$", rf"\1{rules}/\2", text, flags=re.MULTILINE)
    config = LOCAL / "run" / "prometheus.yml"
    config.write_text(text)
    port = 9090 if is_free(9090) else free_port()
    service = Service("prometheus")
    process = service.start(port, [
        binary, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={LOCAL / 'prometheus'}"])

    wait_for("prometheus", process, service.log, lambda: answers(f"http://127.0.0.1:{port}/-/ready"))
    say(f"Prometheus is running on http://127.0.0.1:{port}")
    return port


def down():
    for name in ("prometheus", "sidecar", "ministack", "redis"):
        Service(name).stop()
    ENV.unlink(missing_ok=True)


def redis(action):
    service = Service("redis")
    port_file = LOCAL / "run" / "redis.port"
    if action == "stop":
        _, port = service.running() or fail("redis-server is not running")
        service.stop()
        port_file.write_text(str(port))
    else:
        start_redis(int(port_file.read_text()))


def restart_aws():
    service = Service("ministack")
    _, port = service.running() or fail("the local AWS is not running")
    service.stop()
    start_aws(port)


def change_code(built):
    """Replaces the binaries under load: new instances use the new ones, old instances finish their work. A function that
    this folder does not have keeps its binary: an older version has fewer."""
    _, port = Service("ministack").running() or fail("the local AWS is not running")
    packed = LOCAL / "code"
    built = Path(built).resolve()
    names = [name for name in FUNCTIONS if (built / name).is_file()] or fail(f"{built} has no binary of a function")
    pack(built, packed, names)
    replace_code(f"http://127.0.0.1:{port}", packed, names)


def replace_code(endpoint, packed, names):
    functions = client("lambda", endpoint)
    for function in functions.list_functions()["Functions"]:
        name = function["FunctionName"].removeprefix(f"{STACK}-").partition("-")[0].lower()
        if name in names:
            functions.update_function_code(FunctionName=function["FunctionName"], ZipFile=(packed / f"{name}.zip").read_bytes())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up", *arguments]:
            up(arguments)
        case ["watch", *rest] if rest in ([], ["prometheus"]):
            watch(bool(rest))
        case ["redis", ("stop" | "start") as action]:
            redis(action)
        case ["aws", "restart"]:
            restart_aws()
        case ["code", built]:
            change_code(built)
        case ["down"]:
            down()
        case _:
            fail("usage: stack.py up [Name=value ...] | watch [prometheus] | redis stop|start | aws restart | code DIR | down")
