//! The examples of `infra/RECEIVING.md`, as they are written there, against calls that the deployed
//! stack made: they take these, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use adapters::clock::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::signature::{SEED, Signer, SigningSecret, shared_secret};
use http::HeaderValue;
use serde_json::{Value, json};
use tests::client::Api;
use tests::endpoints::signatures_by;
use tests::receiver::{Arrival, Receiver};
use tests::stack::Stack;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const GUIDE: &str = include_str!("../../../infra/RECEIVING.md");
/// How long an example may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many seconds a call may be old or early.
const TOLERANCE_S: u64 = 300;
/// What the stack sends. A parser that writes it again changes its bytes.
const PAYLOAD: &str = r#"{ "order": 17,  "amount": 1.0, "name": "Zoë 漢" }"#;

/// A language whose examples can be run here.
struct Language {
    /// How its blocks are marked.
    fence: &'static str,
    /// The heading of its server.
    heading: &'static str,
    /// How its files end.
    extension: &'static str,
    program: &'static str,
    /// Says whether the guide takes the call in `CALL` for genuine.
    asks: &'static str,
}

const PYTHON: Language = Language {
    fence: "python",
    heading: "Python",
    extension: "py",
    program: concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/clients/bin/python"),
    asks: r#"
import base64, json, os
from guide import is_genuine

call = json.loads(os.environ["CALL"])
print(is_genuine(call["key"], call["headers"], base64.b64decode(call["body"])))
"#,
};
const JAVASCRIPT: Language = Language {
    fence: "js",
    heading: "JavaScript",
    extension: "mjs",
    program: "node",
    asks: r#"
import { isGenuine } from "./guide.mjs";

const call = JSON.parse(process.env.CALL);
console.log(isGenuine(call.key, call.headers, Buffer.from(call.body, "base64")));
"#,
};

/// The block that stands below this heading in this language.
fn example(heading: &str, fence: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = rest.split("\n#").next().unwrap_or_default();
    let (_, rest) = section.split_once(&format!("\n```{fence}\n")).unwrap_or_else(|| panic!("no {fence}: {heading}"));
    rest.split_once("```").unwrap().0
}

/// A folder of its own, which ends with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("steadhook-examples-{}", fastrand::u64(..)));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Language {
    /// A folder in which its files find the libraries of the guide.
    fn folder(&self) -> Folder {
        let folder = Folder::new();
        let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/node_modules");
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        folder
    }

    /// Runs a file of this folder.
    fn command(&self, folder: &Folder, name: &str) -> Command {
        let mut command = Command::new(self.program);
        command.arg(format!("{name}.{}", self.extension)).current_dir(folder.path()).kill_on_drop(true);
        command
    }

    /// Whether the guide's function takes the call for genuine.
    async fn is_genuine(&self, key: &str, call: &Arrival) -> bool {
        let folder = self.folder();
        folder.write(&format!("guide.{}", self.extension), example("Public keys", self.fence));
        folder.write(&format!("ask.{}", self.extension), self.asks);
        let headers: Value = call.headers.keys().map(|name| (name.to_string(), call.header(name.as_str()))).collect();
        let call = json!({ "key": key, "headers": headers, "body": STANDARD.encode(&call.body) });
        let output = self.command(&folder, "ask").env("CALL", call.to_string()).output().await.unwrap();
        match String::from_utf8_lossy(&output.stdout).trim() {
            "True" | "true" => true,
            "False" | "false" => false,
            said => panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// A server of the guide.
struct Server {
    url: String,
    client: reqwest::Client,
    said: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _folder: Folder,
}

impl Server {
    /// Starts one with this secret, on a free port.
    async fn start(language: &Language, secret: &str) -> Self {
        let folder = language.folder();
        folder.write(&format!("server.{}", language.extension), example(language.heading, language.fence));
        let mut command = language.command(&folder, "server");
        let command = command.env("WEBHOOK_SECRET", secret).env("PORT", "0").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", language.program));
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut server = Self { url: String::new(), client, said, _process: process, _folder: folder };
        let line = server.says().await;
        let port = line.strip_prefix("listening on port ").unwrap_or_else(|| panic!("{line}"));
        server.url = format!("http://127.0.0.1:{port}/hooks");
        server
    }

    /// The next line that it prints.
    async fn says(&mut self) -> String {
        timeout(PATIENCE, self.said.next_line()).await.unwrap().unwrap().expect("the example ended")
    }

    /// Its answer to a call.
    async fn answer(&self, call: &Arrival) -> u16 {
        let mut headers = call.headers.clone();
        headers.remove("host");
        headers.remove("content-length");
        let request = self.client.post(&self.url).headers(headers).body(call.body.clone());
        request.send().await.unwrap().status().as_u16()
    }
}

/// A pair of keys, `whsk_…` and `whpk_…`.
struct KeyPair {
    private: String,
    public: String,
}

impl KeyPair {
    fn random() -> Self {
        let seed: [u8; SEED] = std::array::from_fn(|_| fastrand::u8(..));
        let private = format!("whsk_{}", STANDARD.encode(seed));
        let public = SigningSecret::parse(&private).unwrap().public_key().unwrap();
        Self { private, public }
    }
}

/// One event as three endpoints got it.
struct Calls {
    /// The call to an endpoint with one secret.
    plain: Arrival,
    secret: String,
    /// The call to an endpoint whose secret was rotated.
    rotated: Arrival,
    /// Its secrets: the new one and the old one.
    both: [String; 2],
    /// The call to an endpoint with a private key.
    keyed: Arrival,
    keys: KeyPair,
}

/// Lets the stack send an event to three endpoints.
async fn calls() -> Calls {
    let (api, receiver) = (Api::of(&Stack::running()), Receiver::start().await);
    let endpoints = format!("/tenants/guide-{}/endpoints", fastrand::u64(..));
    let create = async |body: Value| {
        let (code, endpoint) = api.post(&endpoints, body.to_string()).await;
        assert_eq!(code, 201, "{endpoint}");
        endpoint
    };
    let text =
        |value: &Value, name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}")).to_owned();
    let plain = create(json!({ "url": receiver.url("/plain") })).await;
    let keys = KeyPair::random();
    let keyed = create(json!({ "url": receiver.url("/keyed"), "secret": keys.private })).await;
    assert_eq!(keyed["public_key"], keys.public);
    let rotated = create(json!({ "url": receiver.url("/rotated") })).await;
    let path = format!("{endpoints}/{}/rotate-secret", text(&rotated, "id"));
    let (code, rotation) = api.post(&path, "").await;
    assert_eq!(code, 200, "{rotation}");

    let event = format!(r#"{{ "event_type": "order.paid", "payload": {PAYLOAD} }}"#);
    let (code, accepted) = api.post(&endpoints.replace("endpoints", "events"), event).await;
    assert_eq!(code, 202, "{accepted}");
    let arrivals = receiver.wait_for(3).await;
    let to = |path: &str| arrivals.iter().find(|arrival| arrival.path == path).cloned().unwrap();
    Calls {
        plain: to("/plain"),
        secret: text(&plain, "secret"),
        rotated: to("/rotated"),
        both: [text(&rotation, "secret"), text(&rotated, "secret")],
        keyed: to("/keyed"),
        keys,
    }
}

/// The call with another value in a header.
fn with_header(call: &Arrival, name: &'static str, value: &str) -> Arrival {
    let mut call = call.clone();
    call.headers.insert(name, HeaderValue::from_str(value).unwrap());
    call
}

/// The call as the stack would have signed it then.
fn signed_at(call: &Arrival, secret: &str, timestamp: u64) -> Arrival {
    let signature = Signer::parse(secret).unwrap().sign(call.header("webhook-id"), timestamp, &call.body);
    with_header(&with_header(call, "webhook-timestamp", &timestamp.to_string()), "webhook-signature", &signature)
}

/// What nobody may take, made of a call that this secret signed.
fn forgeries(call: &Arrival, secret: &str) -> Vec<(&'static str, Arrival)> {
    let now = Clock::system().now().as_secs();
    let spaced = Bytes::from([&call.body[..], b" "].concat());
    let written_again = serde_json::from_slice::<Value>(&call.body).unwrap().to_string();
    let scheme = call.header("webhook-signature").split(',').next().unwrap();
    vec![
        ("a changed body", Arrival { body: spaced, ..call.clone() }),
        ("a body that was parsed and written again", Arrival { body: written_again.into(), ..call.clone() }),
        ("another id", with_header(call, "webhook-id", "msg_1")),
        ("another timestamp", with_header(call, "webhook-timestamp", &now.saturating_sub(1000).to_string())),
        ("an old call", signed_at(call, secret, now - TOLERANCE_S - 1)),
        ("a call from the future", signed_at(call, secret, now + TOLERANCE_S + 10)),
        (
            "another signature",
            with_header(call, "webhook-signature", &format!("{scheme},{}", STANDARD.encode([7; 32]))),
        ),
        ("a signature that is not base64", with_header(call, "webhook-signature", &format!("{scheme},A"))),
        ("a signature without a version", with_header(call, "webhook-signature", "A")),
        ("a body that is not UTF-8", Arrival { body: Bytes::from_static(&[0xff]), ..call.clone() }),
    ]
}

async fn a_server_takes_what_the_stack_sends_and_nothing_else(language: &Language) {
    let Calls { plain, secret, rotated, both, keyed, .. } = calls().await;
    let mut server = Server::start(language, &secret).await;
    assert_eq!(server.answer(&plain).await, 204);
    let said = server.says().await;
    assert!(said.starts_with(plain.header("webhook-id")) && said.contains("Zoë 漢"), "{said}");
    let aged = signed_at(&plain, &secret, Clock::system().now().as_secs() - TOLERANCE_S + 30);
    assert_eq!(server.answer(&aged).await, 204, "a call that is still young enough");
    for (what, call) in forgeries(&plain, &secret) {
        assert_eq!(server.answer(&call).await, 400, "{what}");
    }
    assert_eq!(server.answer(&keyed).await, 400, "libraries skip v1a");

    assert_eq!(rotated.header("webhook-signature").split(' ').count(), 2);
    for secret in &both {
        assert_eq!(signatures_by(&rotated, secret), 1);
        assert_eq!(Server::start(language, secret).await.answer(&rotated).await, 204);
    }
    let stranger = shared_secret(&std::array::from_fn(|_| fastrand::u8(..)));
    let server = Server::start(language, &stranger).await;
    assert_eq!((server.answer(&plain).await, server.answer(&rotated).await), (400, 400));
}

#[tokio::test]
async fn the_server_in_python_takes_what_the_stack_sends_and_nothing_else() {
    a_server_takes_what_the_stack_sends_and_nothing_else(&PYTHON).await;
}

#[tokio::test]
async fn the_server_in_javascript_takes_what_the_stack_sends_and_nothing_else() {
    a_server_takes_what_the_stack_sends_and_nothing_else(&JAVASCRIPT).await;
}

#[tokio::test]
async fn the_examples_for_public_keys_take_what_the_stack_sends_and_nothing_else() {
    let Calls { plain, keyed, keys: KeyPair { private, public }, .. } = calls().await;
    let stranger = KeyPair::random();
    let aged = signed_at(&keyed, &private, Clock::system().now().as_secs() - TOLERANCE_S + 30);
    let rotated = format!("{} {private}", stranger.private);
    let rotated = signed_at(&keyed, &rotated, Clock::system().now().as_secs());
    for language in [PYTHON, JAVASCRIPT] {
        for (what, call) in [("as it came", &keyed), ("young enough", &aged), ("signed by two keys", &rotated)] {
            assert!(language.is_genuine(&public, call).await, "{}: {what}", language.heading);
        }
        for (what, call) in forgeries(&keyed, &private) {
            assert!(!language.is_genuine(&public, &call).await, "{}: {what}", language.heading);
        }
        assert!(!language.is_genuine(&public, &plain).await, "{}: a shared secret", language.heading);
        assert!(!language.is_genuine(&stranger.public, &keyed).await, "{}: another key", language.heading);
    }
}

#[tokio::test]
async fn the_guide_shows_a_call_as_it_arrives() {
    let plain = calls().await.plain;
    assert_eq!(plain.body, PAYLOAD);
    let (_, rest) = GUIDE.split_once("\n```http\n").unwrap();
    let (shown, rest) = rest.split_once("\n```\n").unwrap();
    let (head, body) = shown.split_once("\n\n").unwrap();
    let headers: BTreeMap<&str, &str> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let arrived: Vec<&str> = plain.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(headers.keys().copied().collect::<BTreeSet<_>>(), arrived.iter().copied().collect());
    for name in ["content-type", "accept", "user-agent"] {
        assert_eq!(headers[name], plain.header(name), "{name}");
    }
    assert_eq!(headers["content-length"], body.len().to_string());
    let secret = rest.split('`').find(|text| text.starts_with("whsec_")).unwrap();
    let timestamp = headers["webhook-timestamp"].parse().unwrap();
    let signature = Signer::parse(secret).unwrap().sign(headers["webhook-id"], timestamp, body.as_bytes());
    assert_eq!(headers["webhook-signature"], signature);
}
