"""Checks that a new version of `enqueue` or `deliver` starts, before CodeDeploy gives it traffic.

CodeDeploy calls this as its hook. The hook sends the new version an event without work. If the
version cannot start or fails, the hook says so, and CodeDeploy rolls the version back.
"""

import json
import os

import boto3
from botocore.config import Config

# Both functions read this as an event without work: a request for no route, and no messages.
EVENT = {
    "version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": {}, "isBase64Encoded": False,
    "requestContext": {"http": {"method": "GET", "path": "/"}}, "Records": [],
}


def new_versions(codedeploy, deployment):
    """The version that this deployment is about. If CodeDeploy does not tell, those of the template."""
    try:
        info = codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]
        revision = codedeploy.get_application_revision(
            applicationName=info["applicationName"], revision=info["revision"])["revision"]
        content = json.loads((revision.get("string") or revision["appSpecContent"])["content"])
        targets = [one["Properties"] for resource in content["Resources"] for one in resource.values()]
        return [f"{target['Name']}:{target['TargetVersion']}" for target in targets]
    except Exception as error:
        print(json.dumps({"level": "WARN", "message": f"the deployment tells no version: {error}"}))
        return os.environ["NEW_VERSIONS"].split()


def starts(functions, version):
    answer = functions.invoke(FunctionName=version, Payload=json.dumps(EVENT))
    failed = answer.get("FunctionError")
    told = {"level": "ERROR" if failed else "INFO", "version": version, "function_error": failed}
    print(json.dumps({**told, "answer": answer["Payload"].read().decode()[:500]}))
    return not failed


def handler(event, context):
    codedeploy = boto3.client("codedeploy")
    # The hook must answer before it times out itself.
    once = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
    functions = boto3.client("lambda", config=once)
    try:
        passed = all([starts(functions, version) for version in new_versions(codedeploy, event["DeploymentId"])])
    except Exception as error:
        print(json.dumps({"level": "ERROR", "message": f"a new version cannot be invoked: {error}"}))
        passed = False
    codedeploy.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"], lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="Succeeded" if passed else "Failed")
