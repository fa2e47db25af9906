//! The parameters of the template: faulty ones are refused before anything is deployed, and
//! what is checked is what the functions get.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::{Command, Output};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tests::stack::Stack;
use tokio::net::TcpListener;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

/// A place for a local stack that must not start.
fn nowhere() -> PathBuf {
    std::env::temp_dir().join(format!("steadhook-parameters-{}-{:x}", std::process::id(), fastrand::u64(..)))
}

/// What `make up` says to these parameters. It must refuse them before it starts anything.
fn refused_by_up(parameters: &[&str]) -> String {
    let local = nowhere();
    let output = Command::new(format!("{ROOT}/.local/venvs/ministack/bin/python"))
        .args([&format!("{ROOT}/infra/local/stack.py"), "up"])
        .args(parameters)
        .env("STEADHOOK_LOCAL", &local)
        .output()
        .unwrap();
    let (said, started) = (said(&output), local.join("run").exists());
    if started {
        let stop = ["infra/local/stack.py", "down"];
        let python = format!("{ROOT}/.local/venvs/ministack/bin/python");
        Command::new(python).args(stop).current_dir(ROOT).env("STEADHOOK_LOCAL", &local).status().unwrap();
    }
    drop(std::fs::remove_dir_all(&local));
    assert!(!output.status.success() && !started, "{parameters:?}: {said}");
    said
}

#[test]
fn make_up_refuses_what_a_function_would_refuse() {
    let said = refused_by_up(&["DeliveryTimeoutMs=300000"]);
    let fault = "DeliveryTimeoutMs is refused by deliver: DELIVERY_TIMEOUT_MS must leave 13 s of DELIVER_TIMEOUT_S";
    assert!(said.contains(fault), "{said}");
}

#[test]
fn make_up_refuses_unknown_names() {
    let said = refused_by_up(&["Nope=9"]);
    assert!(said.contains("Nope is no parameter of the template"), "{said}");
}

#[test]
fn every_fault_is_told_at_once() {
    let pem = format!("ReceiverCaPem={}", "x".repeat(4096));
    let said = refused_by_up(&[
        "Nope=9",
        "DeliveryTimeoutMs=300000",
        "MaxRetries=4",
        "RetryFactor=x",
        "ApiAuth=YES",
        "SigningSecretsArn=mine",
        "MasterKeys=mine",
        "TtlUnfinishedS=3600",
        "CreateCache=nodes",
        "IngestTenant=_operator",
        "IngestPrincipals=*",
        "IngestBusName=shop",
        "TtlEventS=60",
        "HistoryDays=31",
        "OwedDays=91",
        "DisableAfterH=0",
        "NotifyBusName=a bus",
        "FanoutConcurrency=1",
        "junk",
        &pem,
    ]);
    for fault in [
        "Nope is no parameter",
        "DELIVERY_TIMEOUT_MS must leave",
        "MaxRetries must be from 0 to 3",
        "RetryFactor must be a number",
        "ApiAuth must be one of AWS_IAM, NONE",
        "SigningSecretsArn must be the ARN of a secret",
        "MasterKeys must be 1 to 16 keys of 32 bytes in base64",
        "TTL_UNFINISHED_S must not be shorter than DELIVERY_DEADLINE_S",
        "RECEIVER_CA_PEM must be",
        "Set RedisUrl, or CreateCache",
        "CreateCache requires CreateNetwork",
        "IngestTenant must be the name of a tenant",
        "IngestPrincipals must be account IDs or ARNs of users and roles",
        "IngestBusName and IngestPattern require each other",
        "TtlEventS must be from 3600 to 2592000",
        "HistoryDays must be from 0 to 30",
        "OwedDays must be from 1 to 90",
        "DisableAfterH must be from 1 to 720",
        "NotifyBusName must be the name of an event bus",
        "FanoutConcurrency must be from 2 to 1000",
        "'junk' must have the form Name=value",
        "bytes, and Lambda takes 4096",
    ] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
    let said = refused_by_up(&["DeliverReservedConcurrency=5"]);
    let wants = "at least DeliveryConcurrency plus RetryConcurrency plus WaitConcurrency plus SlowConcurrency";
    assert!(said.contains(wants), "{said}");
}

#[test]
fn make_gives_its_parameters_to_the_check() {
    let recipe = |arguments: &[&str]| {
        let output = Command::new("make").args(arguments).current_dir(ROOT).output().unwrap();
        (output.status.success(), said(&output))
    };
    let (_, up) = recipe(&["--dry-run", "up", "PARAMS=Nope=9"]);
    assert!(up.contains("stack.py up Nope=9"), "{up}");
    let (_, deploy) = recipe(&["--dry-run", "deploy", "PARAMS=Nope=9"]);
    let at = |text: &str| deploy.find(text).unwrap_or_else(|| panic!("{text}: {deploy}"));
    // The check comes before the build, which takes minutes.
    assert!(at("deploy.py check Nope=9") < at("cargo lambda build"));
    assert!(at("cargo lambda build") < at("deploy.py run Nope=9"));
    // One word says for which processor the functions are built and deployed.
    assert!(deploy.contains("ARCHITECTURE=$(") && deploy.contains("deploy.py architecture Nope=9"), "{deploy}");
    let (done, arch) = recipe(&["--dry-run", "deploy", "ARCH=x86_64"]);
    assert!(!done && arch.contains("PARAMS=\"Architecture=x86_64\""), "{arch}");
    // What was tested is what is built, and only functions are built for Lambda.
    let build = deploy.lines().find(|line| line.contains("cargo lambda build")).unwrap();
    assert!(build.contains("--locked") && !build.contains("sidecar"), "{build}");
    assert_eq!(build.matches("--package fn-").count(), 11, "{build}");
    let tools = include_str!("../../../infra/local/requirements-deploy.txt");
    for tool in ["cargo-lambda==", "ziglang=="] {
        assert!(tools.contains(tool), "{tool}");
    }
}

#[test]
fn what_is_checked_is_what_the_functions_get() {
    let stack = Stack::running();
    let functions = Command::new(format!("{ROOT}/.local/venvs/tools/bin/aws"))
        .args(["--endpoint-url", stack.get("AWS_ENDPOINT_URL"), "lambda", "list-functions"])
        .envs(stack.lines())
        .output()
        .expect("the AWS CLI is missing: run the tests by `make test`");
    let functions: Value = serde_json::from_slice(&functions.stdout).unwrap();
    let secrets = format!("SigningSecrets={}", stack.get("SIGNING_SECRETS"));
    let keys = format!("MasterKeys={}", stack.get("MASTER_KEYS"));
    let checked = Command::new(format!("{ROOT}/.local/venvs/ministack/bin/python"))
        .args([&format!("{ROOT}/infra/local/parameters.py"), "environments", &secrets, &keys])
        .args([
            "RetryBaseS=1",
            "AllowedPrivateCidrs=127.0.0.0/8,::1/128",
            &format!("RedisUrl={}", stack.get("REDIS_URL")),
        ])
        .output()
        .unwrap();
    let checked: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked.len(), 11);
    for (name, checked) in checked {
        let deployed = functions["Functions"].as_array().unwrap().iter().find(|function| {
            let full = function["FunctionName"].as_str().unwrap().to_lowercase();
            full.starts_with(&format!("steadhook-{name}-"))
        });
        let deployed = deployed.unwrap_or_else(|| panic!("{name}: {functions}"))["Environment"]["Variables"].clone();
        let mut deployed: BTreeMap<String, String> = serde_json::from_value(deployed).unwrap();
        let mut checked = checked;
        // The addresses of what does not exist before the deployment.
        for known_later in [
            "DELIVERY_QUEUE_URL",
            "RETRY_QUEUE_URL",
            "WAIT_QUEUE_URL",
            "SLOW_QUEUE_URL",
            "EVENT_QUEUE_URL",
            "INGEST_QUEUE_ARN",
            "INGEST_DEAD_LETTER_QUEUE_ARN",
            "DEAD_LETTER_QUEUE_URL",
            "DEAD_LETTER_TABLE",
            "REGISTRY_TABLE",
            "HISTORY_TABLE",
        ] {
            assert_eq!(deployed.remove(known_later).is_some(), checked.remove(known_later).is_some(), "{name}");
        }
        assert_eq!(deployed, checked, "{name}");
    }
}

/// CloudFormation with one stack of these parameters, or with none.
async fn cloudformation(parameters: Option<&'static [(&'static str, &'static str)]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move || {
        let Some(parameters) = parameters else {
            let error = "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>\
                <Message>Stack with id steadhook does not exist</Message></Error></ErrorResponse>";
            return (400, error.to_owned());
        };
        let member = |(name, value): &(&str, &str)| {
            format!("<member><ParameterKey>{name}</ParameterKey><ParameterValue>{value}</ParameterValue></member>")
        };
        let members: String = parameters.iter().map(member).collect();
        let stack = format!(
            "<member><StackName>steadhook</StackName><StackStatus>CREATE_COMPLETE</StackStatus>\
            <CreationTime>2026-01-01T00:00:00Z</CreationTime><Parameters>{members}</Parameters></member>"
        );
        let result = format!("<DescribeStacksResult><Stacks>{stack}</Stacks></DescribeStacksResult>");
        (200, format!("<DescribeStacksResponse>{result}</DescribeStacksResponse>"))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |_| async move {
                let (status, body) = answer();
                let response = Response::builder().status(status).header("content-type", "text/xml");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    format!("http://{address}")
}

/// What `make deploy` does before it builds. Its verdict, and what it says.
async fn deploy(endpoint: &str, command: &str, parameters: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new(format!("{ROOT}/.local/venvs/sam/bin/python"))
        .args([&format!("{ROOT}/infra/local/deploy.py"), command])
        .args(parameters)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    (output.status.success(), said(&output))
}

const SECRET: &str = "SigningSecretsArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:signing-AbCdEf";
const MASTER: &str = "MasterKeysSecretArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:master-AbCdEf";

#[tokio::test]
async fn make_deploy_refuses_faults_and_unknown_names_before_it_builds() {
    let aws = &cloudformation(None).await;
    let made = [SECRET, MASTER, "CreateNetwork=true", "CreateCache=serverless"];
    assert_eq!(deploy(aws, "check", &made).await, (true, String::new()));
    let (done, said) = deploy(aws, "check", &[&made[..], &["DeliveryTimeoutMs=300000", "Nope=9"]].concat()).await;
    assert!(!done && said.contains("DELIVERY_TIMEOUT_MS must leave 13 s"), "{said}");
    assert!(said.contains("Nope is no parameter of the template"), "{said}");
    // `run` checks again: it is the last step before `sam deploy`.
    let (done, said) = deploy(aws, "run", &[&made[..], &["Nope=9"]].concat()).await;
    assert!(!done && said.contains("nothing was deployed"), "{said}");
    let (done, said) = deploy(aws, "check", &[&made[..], &["Release=1"]].concat()).await;
    assert!(!done && said.contains("Release is set by `make deploy`"), "{said}");
    // Nothing is given: what is missing is told.
    let (done, said) = deploy(aws, "check", &[]).await;
    assert!(!done, "{said}");
    for missing in ["Set RedisUrl, or CreateCache", "Set either SigningSecretsArn", "Set either MasterKeysSecretArn"] {
        assert!(said.contains(missing), "{missing}: {said}");
    }
}

#[tokio::test]
async fn make_deploy_refuses_to_upgrade_a_stack_without_master_keys() {
    let kept: &[(&str, &str)] = &[("RedisUrl", "****"), ("SigningSecrets", "****")];
    let aws = &cloudformation(Some(kept)).await;
    let (done, said) = deploy(aws, "check", &[]).await;
    assert!(!done && said.contains("Set either MasterKeysSecretArn or MasterKeys"), "{said}");
    assert_eq!(deploy(aws, "check", &[MASTER]).await, (true, String::new()));
}

#[tokio::test]
async fn make_deploy_checks_the_values_that_a_deployed_stack_keeps() {
    let kept: &[(&str, &str)] = &[
        ("RedisUrl", "****"),
        ("SigningSecrets", "****"),
        ("MasterKeys", "****"),
        ("RetryBaseS", "1"),
        ("RetryBaseThrottledS", "2"),
        ("Architecture", "x86_64"),
        ("Release", "2222222222222222222222222222222222222222222222222222222222222222"),
        ("GoneSinceThen", "1"),
    ];
    let aws = &cloudformation(Some(kept)).await;
    // With the defaults of the template, this cap would be shorter than the bases.
    assert_eq!(deploy(aws, "check", &["RetryCapS=5"]).await, (true, String::new()));
    let (done, said) = deploy(aws, "check", &["RetryCapS=1"]).await;
    assert!(
        !done && said.contains("RETRY_BASE_THROTTLED_S must not be longer") && !said.contains("RETRY_BASE_S "),
        "{said}"
    );
    assert_eq!(deploy(aws, "architecture", &[]).await, (true, "x86_64\n".to_owned()));
    assert_eq!(deploy(aws, "architecture", &["Architecture=arm64"]).await, (true, "arm64\n".to_owned()));
}

#[tokio::test]
async fn make_deploy_needs_a_region() {
    let output = tokio::process::Command::new(format!("{ROOT}/.local/venvs/sam/bin/python"))
        .args([&format!("{ROOT}/infra/local/deploy.py"), "check"])
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .output()
        .await
        .unwrap();
    assert!(!output.status.success() && said(&output).contains("no region is set"), "{}", said(&output));
}

#[test]
fn parameters_stand_in_one_place() {
    let configuration = include_str!("../../../samconfig.toml");
    assert!(!configuration.contains("parameter_overrides"), "`make deploy` takes them from PARAMS alone");
}
