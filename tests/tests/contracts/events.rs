//! Events as AWS publishes them, through the real binaries, and the lines of metrics that the
//! binaries write, against the schema that CloudWatch publishes.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tests::binary::Function;
use tests::receiver::Receiver;
use tests::redis_server::RedisServer;
use tests::stack::Stack;
use tests::world::settings;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Most bytes of one log event, which a line of metrics must fit into.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// Most values of one metric in one line (CloudWatch, EMF specification).
const MAX_VALUES: usize = 100;

fn published(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A published request for another route, as API Gateway would send it.
fn request(event: &str, method: &str, path: &str, query: &str, body: Option<&str>) -> Value {
    let mut event = published(event);
    event["routeKey"] = format!("{method} {path}").into();
    event["requestContext"]["routeKey"] = event["routeKey"].clone();
    event["requestContext"]["http"]["method"] = method.into();
    event["requestContext"]["http"]["path"] = path.into();
    event["rawPath"] = path.into();
    event["rawQueryString"] = query.into();
    let fields = event.as_object_mut().unwrap();
    fields.remove("queryStringParameters");
    fields.remove("body");
    if let Some(body) = body {
        // API Gateway encodes the body unless it knows that it is text.
        fields.insert("body".to_owned(), BASE64_STANDARD.encode(body).into());
        fields.insert("isBase64Encoded".to_owned(), true.into());
    }
    event
}

const IAM: &str = include_str!("../../vectors/apigateway-iam.json");
const OPEN: &str = include_str!("../../vectors/apigateway-open.json");

/// The published event of SQS with this body, and with the attributes that SQS has added since.
fn delivered_by_sqs(body: &str) -> Value {
    let mut event = published(include_str!("../../vectors/sqs.json"));
    let record = &mut event["Records"][0];
    record["body"] = body.into();
    record["attributes"]["MessageGroupId"] = "https://receiver.example".into();
    record["attributes"]["AWSTraceHeader"] = "Root=1-5e9f0c65-1de4d666d4dd26aced652b6c".into();
    record["attributes"]["DeadLetterQueueSourceArn"] = "arn:aws:sqs:us-west-2:123456789012:Source".into();
    event
}

/// Functions on a Redis and queues of their own.
struct Surroundings {
    _redis: RedisServer,
    settings: Vec<(&'static str, String)>,
    sqs: aws_sdk_sqs::Client,
}

impl Surroundings {
    async fn new() -> Self {
        let (redis, stack) = (RedisServer::start(), Stack::running());
        let (mut settings, sqs) = (settings(&redis.url()), stack.sqs());
        let mut set = |name: &'static str, value: String| {
            settings.retain(|(other, _)| *other != name);
            settings.push((name, value));
        };
        for name in [
            "DELIVERY_QUEUE_URL",
            "RETRY_QUEUE_URL",
            "WAIT_QUEUE_URL",
            "SLOW_QUEUE_URL",
            "EVENT_QUEUE_URL",
            "DEAD_LETTER_QUEUE_URL",
        ] {
            let queue = format!("events-{name}-{}", fastrand::u64(..));
            let created = sqs.create_queue().queue_name(queue).send().await.unwrap();
            set(name, created.queue_url().unwrap().to_owned());
        }
        set("DEAD_LETTER_TABLE", stack.get("DEAD_LETTER_TABLE").to_owned());
        set("REGISTRY_TABLE", stack.get("REGISTRY_TABLE").to_owned());
        set("HISTORY_TABLE", stack.get("HISTORY_TABLE").to_owned());
        set("AWS_ENDPOINT_URL", stack.get("AWS_ENDPOINT_URL").to_owned());
        Self { _redis: redis, settings, sqs }
    }

    async fn start(&self, name: &str) -> Function {
        Function::start(name, &self.settings).await
    }

    /// The body of the next message of a queue.
    async fn received(&self, queue: &str) -> String {
        let url = &self.settings.iter().find(|(name, _)| *name == queue).unwrap().1;
        let received = self.sqs.receive_message().queue_url(url).wait_time_seconds(5).send().await.unwrap();
        received.messages()[0].body().unwrap().to_owned()
    }
}

/// What a function has logged. It ends.
async fn lines(function: Function) -> Vec<Value> {
    Command::new("kill").args(["-TERM", &function.pid().to_string()]).status().unwrap();
    let (_, output) = function.ended().await;
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The lines of metrics among what a function has logged, each checked against the schema and
/// the rules that the schema cannot express.
fn metrics(lines: &[Value]) -> Vec<&Value> {
    let schema = published(include_str!("../../vectors/emf.schema.json"));
    let schema = jsonschema::validator_for(&schema).unwrap();
    let metrics: Vec<&Value> = lines.iter().filter(|line| line.get("_aws").is_some()).collect();
    for line in &metrics {
        let faults: Vec<String> = schema.iter_errors(line).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?}: {line}");
        assert!(line.to_string().len() <= MAX_EVENT_BYTES);
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            for dimension in directive["Dimensions"].as_array().unwrap().iter().flat_map(|set| set.as_array().unwrap())
            {
                assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}: {line}");
            }
            for metric in directive["Metrics"].as_array().unwrap() {
                let target = &line[metric["Name"].as_str().unwrap()];
                let values = target.as_array().map_or(std::slice::from_ref(target), Vec::as_slice);
                assert!(!values.is_empty() && values.len() <= MAX_VALUES, "{metric}: {line}");
                assert!(values.iter().all(Value::is_number), "{metric}: {line}");
            }
        }
    }
    metrics
}

fn tells(metrics: &[&Value], name: &str) -> bool {
    let of = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().cloned().unwrap_or_default();
    metrics.iter().any(|line| of(line).iter().any(|metric| metric["Name"] == name))
}

#[tokio::test]
async fn a_request_and_a_message_as_aws_publishes_them_deliver_a_webhook() {
    let surroundings = Surroundings::new().await;
    let receiver = Receiver::start().await;
    let enqueue = surroundings.start("enqueue").await;
    let payload = "{ \"n\": 1.0 }";
    let body = format!(r#"{{"webhook_url":"{}","payload":{payload},"reference_id":"a"}}"#, receiver.url("/"));
    let answer = enqueue.invoke(&request(IAM, "POST", "/webhooks", "", Some(&body))).await;
    assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(202), &json!(false)), "{answer}");

    let deliver = surroundings.start("deliver").await;
    let message = surroundings.received("DELIVERY_QUEUE_URL").await;
    let answer = deliver.invoke(&delivered_by_sqs(&message)).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(receiver.arrivals()[0].body, payload.as_bytes());

    // A body that is text comes as it is.
    let mut text = request(OPEN, "POST", "/webhooks", "", None);
    text["body"] = body.into();
    let answer = enqueue.invoke(&text).await;
    let told: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!((&answer["statusCode"], &told["duplicate"]), (&json!(202), &json!(true)), "{answer}");

    let (enqueue, deliver) = (lines(enqueue).await, lines(deliver).await);
    let (enqueue, deliver) = (metrics(&enqueue), metrics(&deliver));
    assert!(tells(&enqueue, "webhook_enqueued_total"), "{enqueue:?}");
    assert!(tells(&deliver, "webhook_deliveries_total.delivered.direct"), "{deliver:?}");
}

#[tokio::test]
async fn every_published_request_is_answered() {
    let surroundings = Surroundings::new().await;
    let operate = surroundings.start("operate").await;
    // As they are published: paths that do not exist.
    for event in [IAM, OPEN] {
        let answer = operate.invoke(&published(event)).await;
        assert_eq!(answer["statusCode"], 404, "{answer}");
        assert_eq!(answer["headers"]["content-type"], "application/problem+json", "{answer}");
    }
    for (name, path, query, status) in [
        ("operate", "/webhook-statuses", "status=failed&limit=1", 200),
        ("operate", "/webhook-statuses", "limit=0", 422),
        ("operate", "/dead-letters/none", "", 404),
        ("health", "/health", "", 200),
        ("metrics", "/metrics", "", 200),
    ] {
        let function = surroundings.start(name).await;
        for event in [IAM, OPEN] {
            let answer = function.invoke(&request(event, "GET", path, query, None)).await;
            assert_eq!(answer["statusCode"], status, "{path}?{query}: {answer}");
        }
        assert!(!metrics(&lines(function).await).is_empty(), "{name}");
    }
    let answer = operate.invoke(&request(IAM, "DELETE", "/dead-letters/none", "", None)).await;
    assert!([204, 404].contains(&answer["statusCode"].as_u64().unwrap()), "{answer}");
}

#[tokio::test]
async fn a_published_message_that_is_not_ours_becomes_a_dead_letter_and_is_filed() {
    let surroundings = Surroundings::new().await;
    let (deliver, archive) = (surroundings.start("deliver").await, surroundings.start("archive").await);
    let mut event = published(include_str!("../../vectors/sqs.json"));
    // The table outlives this test. What it knows is not counted again.
    event["Records"][0]["messageId"] = format!("MessageID_{}", fastrand::u64(..)).into();
    assert_eq!(deliver.invoke(&event).await, json!({ "batchItemFailures": [] }));
    assert_eq!(surroundings.received("DEAD_LETTER_QUEUE_URL").await, "Message Body");
    // Attributes of other types than ours do not matter.
    assert_eq!(archive.invoke(&event).await, json!({ "batchItemFailures": [] }));
    let archive = lines(archive).await;
    assert!(archive.iter().any(|line| line["message"] == "dead letter filed"), "{archive:?}");
    assert!(tells(&metrics(&archive), "webhook_dead_letters_total.malformed.direct"), "{archive:?}");
}

#[tokio::test]
async fn a_schedule_starts_the_cleanup_and_the_health_check() {
    let surroundings = Surroundings::new().await;
    let event = published(include_str!("../../vectors/eventbridge-schedule.json"));
    let healthy = "healthy".into();
    for (name, field, expected, metric) in [
        ("cleanup", "complete", Value::Bool(true), "task_invocations_total.cleanup.ok"),
        ("health", "status", healthy, "health_level"),
    ] {
        let function = surroundings.start(name).await;
        // Nobody reads the answer to a schedule, so it is the body alone.
        let answer = function.invoke(&event).await;
        assert_eq!(answer[field], expected, "{name}: {answer}");
        let lines = lines(function).await;
        assert!(tells(&metrics(&lines), metric), "{name}: {lines:?}");
    }
}

/// Runs Python code with the hook of CodeDeploy as the module `index`. It prints JSON.
fn with_the_hook(code: &str) -> Value {
    let output = Command::new(format!("{ROOT}/.local/venvs/ministack/bin/python"))
        .args(["-c", code])
        .env("PYTHONPATH", format!("{ROOT}/infra/start_check"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NEW_VERSIONS", "enqueue:5 deliver:7")
        .output()
        .expect("Python is missing: run the tests by `make test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn the_event_of_the_hook_is_answered_and_does_nothing() {
    let surroundings = Surroundings::new().await;
    let event = with_the_hook("import index, json; print(json.dumps(index.EVENT))");
    for (name, expected) in [("enqueue", json!(404)), ("deliver", json!([]))] {
        let function = surroundings.start(name).await;
        let answer = function.invoke(&event).await;
        assert!(answer["statusCode"] == expected || answer["batchItemFailures"] == expected, "{name}: {answer}");
    }
}

/// The hook with stand-ins for CodeDeploy and Lambda. It prints whom it invoked and what it told.
const STAND_INS: &str = r#"
import io, json, boto3, index
invoked, told = [], []
class CodeDeploy:
    def get_deployment(self, deploymentId):
        assert deploymentId == "d-1"
        return {"deploymentInfo": {"applicationName": "app", "revision": {"revisionType": "String", "string": {"sha256": "x"}}}}
    def get_application_revision(self, applicationName, revision):
        assert (applicationName, revision["string"]["sha256"]) == ("app", "x")
        if not KNOWN: raise RuntimeError("denied")
        properties = {"Name": "steadhook-Deliver", "Alias": "live", "CurrentVersion": "6", "TargetVersion": "7"}
        content = {"version": 0.0, "Resources": [{"one": {"Type": "AWS::Lambda::Function", "Properties": properties}}]}
        return {"revision": {"revisionType": "String", "string": {"content": json.dumps(content)}}}
    def put_lifecycle_event_hook_execution_status(self, deploymentId, lifecycleEventHookExecutionId, status):
        told.append([deploymentId, lifecycleEventHookExecutionId, status])
class Lambda:
    def invoke(self, FunctionName, Payload):
        invoked.append(FunctionName)
        assert json.loads(Payload)["Records"] == []
        if GONE: raise RuntimeError("there is no such version")
        failure = {"FunctionError": "Unhandled"} if FAILS in FunctionName else {}
        return {"StatusCode": 200, "Payload": io.BytesIO(b"{}"), **failure}
boto3.client = lambda name, **_: {"codedeploy": CodeDeploy, "lambda": Lambda}[name]()
index.handler({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "h-1"}, None)
print(json.dumps({"invoked": invoked, "told": told}))
"#;

#[test]
fn a_version_that_cannot_start_gets_no_traffic() {
    let run = |known: bool, gone: bool, fails: &str| {
        let python = |value: bool| if value { "True" } else { "False" };
        let values = format!("KNOWN, GONE, FAILS = {}, {}, \"{fails}\"\n", python(known), python(gone));
        with_the_hook(&(values + STAND_INS))
    };
    let told = |invoked: &[&str], status: &str| json!({ "invoked": invoked, "told": [["d-1", "h-1", status]] });
    // CodeDeploy tells which version a deployment is about: also the old one, in a roll-back.
    assert_eq!(run(true, false, "none"), told(&["steadhook-Deliver:7"], "Succeeded"));
    assert_eq!(run(true, false, "Deliver:7"), told(&["steadhook-Deliver:7"], "Failed"));
    assert_eq!(run(true, true, "none"), told(&["steadhook-Deliver:7"], "Failed"));
    // If it does not tell, both new versions must start.
    assert_eq!(run(false, false, "none"), told(&["enqueue:5", "deliver:7"], "Succeeded"));
    assert_eq!(run(false, false, "enqueue"), told(&["enqueue:5", "deliver:7"], "Failed"));
    assert_eq!(run(false, false, "deliver"), told(&["enqueue:5", "deliver:7"], "Failed"));
}
