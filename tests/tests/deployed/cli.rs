//! Every command of `steadhook`, on a deployed stack.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::binary::path_of;
use tests::client::Api;
use tests::receiver::Receiver;
use tests::stack::{OwnStack, Stack};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// How long something may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    /// What it wrote, as JSON.
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of a command that succeeded.
    #[track_caller]
    fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }
}

/// The command line, as a user has it who sourced `stack.env`.
struct Steadhook {
    stack: Stack,
    more: Vec<(&'static str, String)>,
}

impl Steadhook {
    fn of(stack: &Stack) -> Self {
        Self { stack: stack.clone(), more: Vec::new() }
    }

    fn running() -> Self {
        Self::of(&Stack::running())
    }

    /// The same with another variable. An empty one is as if it was not there.
    fn with(&self, name: &'static str, value: &str) -> Self {
        let more = [self.more.clone(), vec![(name, value.to_owned())]].concat();
        Self { stack: self.stack.clone(), more }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(path_of("steadhook"));
        command.env_clear().envs(self.stack.lines()).env("HOME", "/nonexistent").args(arguments);
        for (name, value) in &self.more {
            match value.as_str() {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Done {
        let output = tokio::time::timeout(PATIENCE, self.command(arguments).output());
        let output = output.await.unwrap_or_else(|_| panic!("{arguments:?} takes too long")).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let done = Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        // Nobody watches: no colours, and nothing that steers a terminal.
        assert!(!done.out.contains('\u{1b}') && !done.err.contains('\u{1b}'), "{done:?}");
        assert!(!done.err.contains("panicked"), "{done:?}");
        done
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).await.json()
    }
}

/// On a stack that enforces IAM, calls are signed as API Gateway wants: paths and queries that need escaping, too.
pub(crate) async fn signs_its_calls(stack: &Stack, dead_letter: (&str, &str)) {
    let with = |user: &str| {
        let (key, secret) = stack.get(user).split_once(':').unwrap();
        Steadhook::of(stack).with("AWS_ACCESS_KEY_ID", key).with("AWS_SECRET_ACCESS_KEY", secret)
    };
    let (operator, stranger) = (with("OPERATOR_USER"), with("STRANGER_USER"));
    let receiver = Receiver::start().await;
    let sent = operator.run(&["send", "--to", &receiver.url("/signed"), "1", "--id", "signed:1", "--wait"]).await;
    assert!(sent.text().contains("delivered"), "{sent:?}");
    let (id, origin) = dead_letter;
    let listed = operator.json(&["dead-letters", "list", "--destination", origin, "--since", "1h"]).await;
    assert_eq!(listed[0]["webhook_id"], id);
    let refused = stranger.run(&["status", "signed:1"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("execute-api:Invoke"), "{refused:?}");
    let changed = operator.with("AWS_SECRET_ACCESS_KEY", "wrong").run(&["status"]).await;
    assert_eq!(changed.code, Some(1), "{changed:?}");
}

/// A tenant of a test's own.
fn tenant() -> String {
    format!("cli-{:08x}", fastrand::u32(..))
}

#[tokio::test]
async fn a_webhook_is_sent_followed_shown_and_redriven() {
    let (steadhook, receiver) = (Steadhook::running(), Receiver::start().await);
    let payload = r#"{ "n": 1.50, "big": 12345678901234567890123 }"#;
    let sent = steadhook.run(&["send", "--to", &receiver.url("/a"), payload, "--header", "x-a: b", "--wait"]).await;
    assert!(sent.text().contains("status          delivered\n"), "{sent:?}");
    let got = receiver.arrivals();
    assert_eq!((got.len(), got[0].body.as_ref(), got[0].header("x-a")), (1, payload.as_bytes(), "b"));

    receiver.always(404u16);
    let id = format!("cli-{}", fastrand::u64(..));
    let url = receiver.url("/gone");
    let refused = steadhook.run(&["send", "--to", &url, "1", "--id", &id, "--wait"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("error: it was given up: "), "{refused:?}");
    assert_eq!(steadhook.json(&["status", &id]).await["status"], "failed");
    assert!(steadhook.run(&["status", "--status", "failed", "-n", "200"]).await.text().contains(&id));
    assert_eq!(steadhook.run(&["status", &id, "--wait"]).await.code, Some(1));
    let again = steadhook.json(&["send", "--to", &url, "1", "--id", &id]).await;
    assert_eq!(again["duplicate"], true);

    let filed = async {
        while steadhook.run(&["dead-letters", "show", &id]).await.code != Some(0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, filed).await.unwrap();
    let shown = steadhook.run(&["dead-letters", "show", &id]).await;
    assert!(shown.text().contains("reason          client_error") && shown.out.contains("404"), "{shown:?}");
    let origin = receiver.origin();
    let listed = steadhook.json(&["dead-letters", "list", "--destination", &origin, "--since", "1h"]).await;
    assert_eq!(listed[0]["webhook_id"], json!(id));

    let counted = steadhook.run(&["redrive", "--destination", &origin, "--dry-run"]).await;
    assert_eq!(counted.text(), "1 dead letter found.\n");
    let asked = steadhook.run(&["redrive", "--destination", &origin]).await;
    assert_eq!(asked.code, Some(2), "nobody is there to agree: {asked:?}");
    assert_eq!(receiver.arrivals().len(), 2, "nothing was sent so far");
    receiver.always(200u16);
    let redriven = steadhook.run(&["redrive", "--destination", &origin, "--yes"]).await;
    assert_eq!(redriven.text(), "1 dead letter sent again.\n");
    assert_eq!(steadhook.run(&["status", &id, "--wait"]).await.code, Some(0));
    assert_eq!(receiver.wait_for(3).await[2].header("webhook-id"), id);
    assert_eq!(steadhook.run(&["redrive", &id]).await.code, Some(0));
    assert_eq!(steadhook.run(&["dead-letters", "delete", &id]).await.text(), "Deleted.\n");
    assert_eq!(steadhook.run(&["dead-letters", "show", &id]).await.code, Some(1));
}

#[tokio::test]
async fn an_endpoint_is_registered_changed_tested_and_deleted() {
    let (steadhook, receiver) = (Steadhook::running(), Receiver::start().await);
    let tenant = tenant();
    let steadhook = steadhook.with("STEADHOOK_TENANT", &tenant);
    let settings = ["--types", "order.*,user.made", "--description", "Shop", "--schedule", "5s,1m", "--rate", "20"];
    let headers = ["--header", "x-a: b", "--sensitive-header", "authorization: Bearer x", "--uid", "shop"];
    let filter = ["--filter", r#"{"payload": {"amount": [{"numeric": [">", 10]}]}}"#];
    let create = ["endpoints", "create", &receiver.url("/hook")];
    let made = steadhook.json(&[&create[..], &settings, &headers, &filter].concat()).await;
    let id = made["id"].as_str().unwrap();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(made["retry_schedule_s"], json!([5, 60]));
    assert_eq!(made["headers"]["authorization"], json!({ "sensitive": true }));
    assert_eq!(made["event_types"], json!(["order.*", "user.made"]));
    assert_eq!(steadhook.json(&["endpoints", "list", "--uid", "shop"]).await[0]["id"], made["id"]);
    let listed = steadhook.run(&["endpoints", "list"]).await;
    assert!(listed.text().contains(&format!("{id}  enabled")), "{listed:?}");

    let queued = steadhook.json(&["endpoints", "test", id, "--type", "order.paid", "--payload", r#"{"a":1.50}"#]).await;
    let delivery = queued["delivery_id"].as_str().unwrap();
    let shown = steadhook.run(&["status", delivery, "--wait"]).await;
    assert!(shown.text().contains("attempts        1\n"), "{shown:?}");
    assert_eq!(receiver.wait_for(1).await[0].body.as_ref(), br#"{"a":1.50}"#);

    let new = receiver.url("/new");
    let changed =
        steadhook.json(&["endpoints", "update", id, "--to", &new, "--clear", "rate", "--clear", "filter"]).await;
    assert_eq!((&changed["url"], changed.get("rate_per_s"), changed.get("filter")), (&json!(new), None, None));
    assert_eq!(steadhook.run(&["endpoints", "update", id]).await.code, Some(2), "it says nothing to change");
    assert_eq!(steadhook.json(&["endpoints", "pause", "shop"]).await["state"], "paused", "by its uid");
    assert_eq!(steadhook.json(&["endpoints", "resume", id, "--drop-owed"]).await["state"], "enabled");
    let shown = steadhook.run(&["endpoints", "show", id]).await;
    assert!(shown.text().contains("breaker        closed, of the host closed\n"), "{shown:?}");

    let rotated = steadhook.json(&["endpoints", "rotate-secret", id, "--overlap", "1h"]).await;
    assert_eq!(rotated["secrets"][1]["secret"], made["secret"]);
    let secrets = steadhook.run(&["endpoints", "secret", id]).await;
    assert!(secrets.text().contains(rotated["secret"].as_str().unwrap()), "{secrets:?}");
    assert_eq!(steadhook.run(&["endpoints", "delete", id]).await.code, Some(0));
    assert!(steadhook.run(&["endpoints", "show", "shop"]).await.err.contains("has the uid"));
    let gone = steadhook.run(&["endpoints", "show", id]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[tokio::test]
async fn an_event_is_sent_followed_shown_sent_again_and_erased() {
    let (steadhook, receiver, tenant) = (Steadhook::running(), Receiver::start().await, tenant());
    let steadhook = steadhook.with("STEADHOOK_TENANT", &tenant);
    let nobody = steadhook.run(&["send", "--type", "order.paid", "0", "--wait"]).await;
    assert!(nobody.text().contains("No endpoint of the tenant wants it."), "{nobody:?}");
    let made = steadhook.json(&["endpoints", "create", &receiver.url("/hook"), "--schedule", ""]).await;
    let endpoint = made["id"].as_str().unwrap();

    let file = scratch("event.json");
    std::fs::write(&file, "{\"order\": 17}\n").unwrap();
    let send = ["send", "--type", "order.paid", "--id", "e1", &format!("@{}", file.display()), "--wait"];
    let sent = steadhook.run(&send).await;
    assert!(sent.text().contains(&format!("{endpoint}  delivered  1 ")), "{sent:?}");
    assert_eq!(receiver.arrivals()[0].body.as_ref(), b"{\"order\": 17}");
    std::fs::remove_file(&file).unwrap();

    receiver.answer([400u16]);
    let failed =
        steadhook.run(&["send", "--type", "order.paid", "--id", "e2", "2", "--wait", "--output", "json"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let deliveries: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(deliveries["deliveries"][0]["result"], "retries_exhausted");

    let listed = steadhook.json(&["events", "list", "--type", "order.paid", "--since", "1h"]).await;
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids[..2], ["e2", "e1"]);
    let shown = steadhook.run(&["events", "show", "e1"]).await;
    assert!(shown.text().contains("\"order\": 17") && shown.out.contains(endpoint), "{shown:?}");
    let delivery = steadhook.run(&["events", "delivery", "e2", endpoint]).await;
    assert!(delivery.text().contains("failed") && delivery.out.contains("400"), "{delivery:?}");
    let of_endpoint = steadhook.json(&["endpoints", "deliveries", endpoint, "--result", "failed"]).await;
    assert_eq!((of_endpoint.as_array().unwrap().len(), &of_endpoint[0]["event_id"]), (1, &json!("e2")));

    let resent = steadhook.json(&["events", "resend", "e1", endpoint]).await;
    let again = resent["delivery_id"].as_str().unwrap();
    assert_eq!(steadhook.run(&["status", again, "--wait"]).await.code, Some(0));

    let start = ["replay", "start", endpoint, "--since", "1h", "--wait"];
    let counted = steadhook.json(&[&start[..], &["--dry-run"]].concat()).await;
    assert_eq!((&counted["state"], &counted["matched"], &counted["queued"]), (&json!("done"), &json!(1), &json!(0)));
    let replayed = steadhook.json(&start).await;
    assert_eq!((&replayed["state"], &replayed["queued"]), (&json!("done"), &json!(1)));
    let replay = replayed["replay_id"].as_str().unwrap();
    assert!(steadhook.run(&["replay", "show", replay]).await.text().contains("state      done"));
    assert_eq!(steadhook.run(&["replay", "stop", replay]).await.code, Some(0));
    receiver.wait_for(4).await;

    let tail = ["tail", "--no-follow", "-n", "50"];
    let ended = steadhook.run(&[&tail[..], &["--endpoint", endpoint]].concat()).await;
    assert!(ended.text().contains(again) && ended.out.contains("retries_exhausted"), "{ended:?}");
    let failed = steadhook.run(&[&tail[..], &["--failed", "--output", "json"]].concat()).await;
    let lines: Vec<Value> = failed.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["event_id"] == "e2" && line["tenant"] == json!(tenant)), "{lines:?}");
    assert!(lines.iter().all(|line| line["result"] != "delivered"), "{lines:?}");

    assert_eq!(steadhook.run(&["events", "erase", "e1"]).await.code, Some(0));
    let erased = steadhook.json(&["events", "show", "e1"]).await;
    assert!(erased.get("payload").is_none() && erased.get("erased_at").is_some(), "{erased}");
}

#[tokio::test]
async fn tail_shows_each_delivery_once_as_it_finishes() {
    let (steadhook, receiver) = (Steadhook::running(), Receiver::start().await);
    let api = Api::of(&Stack::running());
    let mut tail = steadhook.command(&["tail", "-n", "0", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // A test of this stack may finish deliveries of its own at any time.
    let prefix = format!("tail-{}-", fastrand::u64(..));
    let mut seen: Vec<String> = Vec::new();
    let following = async {
        for n in 0.. {
            let id = format!("{prefix}{n}");
            let body = json!({ "webhook_url": receiver.url("/"), "payload": n, "reference_id": id });
            assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
            api.until(&id, "delivered", PATIENCE).await;
            while let Ok(line) = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await {
                let line: Value = serde_json::from_str(&line.unwrap().expect("it ended")).unwrap();
                seen.extend(line["delivery_id"].as_str().filter(|id| id.starts_with(&prefix)).map(str::to_owned));
            }
            if seen.len() >= 3 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, following).await.unwrap();
    tail.kill().await.unwrap();
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "{seen:?}");
}

#[tokio::test]
async fn listen_verifies_answers_as_told_and_hands_on() {
    let (steadhook, behind) = (Steadhook::running(), Receiver::start().await);
    let listen = async |arguments: &[&str]| {
        let arguments = [&["listen", "--port", "0", "--output", "json"], arguments].concat();
        let mut child = steadhook.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
        let url =
            line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches(',').to_owned();
        (child, url)
    };
    let (child, url) =
        listen(&["--status", "503", "--times", "1", "--answer-header", "retry-after: 1", "--count", "2"]).await;
    let sent = steadhook.run(&["send", "--to", &format!("{url}orders"), r#"{"n": 1.50}"#, "--wait"]).await;
    assert!(sent.text().contains("delivered"), "{sent:?}");
    let output =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends after two calls").unwrap();
    assert!(output.status.success());
    let calls: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let told =
        |call: &Value| (call["status"].clone(), call["signature"].clone(), call["times"].clone(), call["body"].clone());
    let body = json!(r#"{"n": 1.50}"#);
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [(json!(503), json!("valid"), json!(1), body.clone()), (json!(200), json!("valid"), json!(2), body)]
    );
    assert_eq!(calls[0]["request"], "POST /orders");

    // A receiver behind it, which says no. The secret is another one.
    behind.always(418u16);
    let secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let (child, url) = listen(&["--forward", &behind.url("/behind"), "--secret", secret, "--count", "1"]).await;
    let sent = steadhook.run(&["send", "--to", &url, "7", "--wait"]).await;
    assert_eq!(sent.code, Some(1), "{sent:?}");
    let output =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends after one call").unwrap();
    let call: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&call["status"], &call["signature"]), (&json!(418), &json!("invalid")));
    let handed_on = behind.arrivals();
    assert_eq!((handed_on.len(), handed_on[0].body.as_ref(), handed_on[0].path.as_str()), (1, &b"7"[..], "/behind"));
    assert_eq!(json!(handed_on[0].header("webhook-id")), call["headers"]["webhook-id"]);
}

#[tokio::test]
async fn verify_says_whether_a_captured_call_is_signed() {
    let (steadhook, receiver) = (Steadhook::running(), Receiver::start().await);
    let sent = steadhook.run(&["send", "--to", &receiver.url("/"), r#"{"a": 1}"#, "--wait"]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let call = receiver.wait_for(1).await.remove(0);
    let head: String =
        call.headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    let file = scratch("captured.http");
    let path = file.to_str().unwrap();
    std::fs::write(&file, [format!("POST / HTTP/1.1\r\n{head}\r\n").as_bytes(), &call.body].concat()).unwrap();
    let secret = steadhook.stack.get("SIGNING_SECRETS").to_owned();
    let alone = steadhook.with("STEADHOOK_SECRETS", "");
    assert!(alone.run(&["verify", "--request", path, "--secret", &secret]).await.text().contains("signature   valid"));
    assert_eq!(
        steadhook.json(&["verify", "--request", path]).await,
        json!({ "valid": true, "why": null }),
        "with that of stack.env"
    );
    let other = alone.run(&["verify", "--request", path, "--secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]).await;
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.out.contains("another secret"), "{other:?}");
    let headers: Vec<String> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .iter()
        .flat_map(|name| ["--header".to_owned(), format!("{name}: {}", call.header(name))])
        .collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    assert_eq!(steadhook.run(&[&["verify", r#"{"a": 1}"#], &headers[..]].concat()).await.code, Some(0));
    assert_eq!(steadhook.run(&[&["verify", r#"{"a":1}"#], &headers[..]].concat()).await.code, Some(1));
    assert_eq!(alone.run(&["verify", "--request", path]).await.code, Some(2), "no secret");
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn a_token_is_made_used_and_revoked() {
    let (steadhook, tenant) = (Steadhook::running(), tenant());
    let scope = format!("tenant:{tenant}");
    let create = ["tokens", "create", "--scope", &scope, "--for", "1h", "--description", "Shop"];
    let made = steadhook.json(&create).await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let holder = steadhook.with("STEADHOOK_TOKEN", token).with("AWS_ACCESS_KEY_ID", "");
    let listed = holder.run(&["endpoints", "list"]).await;
    assert!(listed.text().starts_with("No endpoints."), "the token tells the tenant: {listed:?}");
    assert_eq!(holder.run(&["send", "--type", "a", "1"]).await.code, Some(0));
    let refused = holder.run(&["dead-letters", "list"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("403"), "{refused:?}");
    assert_eq!(holder.run(&["endpoints", "list", "--tenant", "other"]).await.code, Some(1));
    let tokens = steadhook.run(&["tokens", "list", "--scope", &scope]).await;
    assert!(tokens.text().contains(id) && tokens.out.contains("Shop") && !tokens.out.contains(token), "{tokens:?}");
    assert_eq!(steadhook.run(&["tokens", "revoke", id]).await.code, Some(0));
    assert_eq!(steadhook.json(&["tokens", "end-all", "--scope", &scope]).await["epoch"], 1);
    let ended = async {
        while holder.run(&["endpoints", "list"]).await.code == Some(0) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let printed = steadhook.run(&["console", "--tenant", &tenant, "--read-only", "--print"]).await;
    let (page, code) = printed.text().trim().split_once("#code=").unwrap();
    let page = reqwest::Client::builder().no_proxy().build().unwrap().get(page).send().await.unwrap();
    assert_eq!((page.status().as_u16(), code.len()), (200, 43));
    let (status, session) =
        Api::of(&steadhook.stack).post("/console/sessions", json!({ "code": code }).to_string()).await;
    assert_eq!((status, &session["scope"], &session["read_only"]), (201, &json!(scope), &json!(true)));
}

#[tokio::test]
async fn exit_codes_and_errors_tell_scripts_what_happened() {
    let steadhook = Steadhook::running();
    let nowhere = steadhook.with("STEADHOOK_URL", "").with("STEADHOOK_STACK_NAME", "");
    let away = steadhook.with("STEADHOOK_URL", "http://127.0.0.1:9");
    let cases: &[(&Steadhook, &[&str], i32, &str)] = &[
        (&steadhook, &["status", "nothing-here"], 1, "Not found (404)"),
        (&steadhook, &["status", "a b"], 1, "/id: "),
        (&steadhook, &["send", "--to", "http://127.0.0.1:9/", "{"], 2, "is no JSON"),
        (&steadhook, &["send", "1"], 2, "--type"),
        (&steadhook, &["send", "--type", "a", "1"], 2, "which tenant?"),
        (&steadhook, &["send", "--tenant", "a/b", "--type", "a", "1"], 2, "is no name of a tenant"),
        (&steadhook, &["send", "--to", "http://10.0.0.1/", "1", "--header", "host: x"], 1, "/headers"),
        (&steadhook, &["events", "list", "--tenant", "a", "--since", "soon"], 2, "how long ago"),
        (&steadhook, &["nonsense"], 2, "unrecognized subcommand"),
        (&steadhook, &["--url", "http://127.0.0.1:9", "--stack", "a", "status"], 2, "not both"),
        (&steadhook, &["--stack", "nobodys", "status"], 1, "does not exist"),
        (&nowhere, &["status"], 2, "where is the API?"),
        (&away, &["status"], 3, "cannot be reached"),
        (&away, &["doctor"], 3, "the API was not reached"),
        (&steadhook.with("AWS_ACCESS_KEY_ID", ""), &["status"], 2, "no credentials of AWS were found"),
    ];
    for (steadhook, arguments, code, told) in cases {
        let steadhook = steadhook.with("AWS_EC2_METADATA_DISABLED", "true");
        let done = steadhook.run(arguments).await;
        assert_eq!(done.code, Some(*code), "{arguments:?} {done:?}");
        assert!(done.err.contains(told), "{arguments:?} {done:?}");
    }
    // The name of the stack is enough, and an answer that is no JSON of ours is told as it is.
    let named = steadhook.with("STEADHOOK_URL", "").run(&["--stack", "steadhook", "call", "GET", "/health"]).await;
    assert_eq!(named.json()["components"]["storage"]["status"], "up");
    let put = steadhook.run(&["call", "PUT", "/event-types/cli.tried", r#"{"description": "x"}"#]).await;
    assert_eq!(put.json()["description"], "x");
    assert_eq!(steadhook.run(&["call", "DELETE", "/event-types/cli.tried"]).await.code, Some(0));
}

#[tokio::test]
async fn completions_and_man_pages_are_written() {
    let steadhook = Steadhook::running();
    for shell in ["bash", "zsh", "fish"] {
        let script = steadhook.run(&["completions", shell]).await;
        assert!(script.text().contains("dead-letters") && script.out.contains("rotate-secret"), "{shell}");
    }
    let bash = "source <(\"$0\" completions bash) && complete -p steadhook && COMP_WORDS=(steadhook do) COMP_CWORD=1 \
        && _steadhook steadhook do steadhook && echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", bash]).arg(path_of("steadhook")).output().await.unwrap();
    let completed = String::from_utf8(completed.stdout).unwrap();
    assert!(completed.ends_with("\ndoctor\n"), "{completed:?}");
    let folder = scratch("man");
    assert_eq!(steadhook.run(&["man", folder.to_str().unwrap()]).await.code, Some(0));
    let page = std::fs::read_to_string(folder.join("steadhook-endpoints-create.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("Registers an endpoint"));
    assert!(steadhook.run(&["man"]).await.text().contains("Exit codes"));
    std::fs::remove_dir_all(&folder).unwrap();
    let help = steadhook.run(&["--help"]).await;
    let kept = include_str!("../../../infra/cli/help.txt");
    let help: String = help.text().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert!(kept.contains(&help), "{help}");
}

#[tokio::test]
async fn doctor_names_each_fault_and_the_next_step() {
    let own = OwnStack::start(&["RetryBaseS=1"]);
    let steadhook = Steadhook::of(own.stack());
    let well = steadhook.run(&["doctor"]).await;
    assert!(well.text().ends_with("\nAll is well.\n"), "{well:?}");
    for name in [
        "region",
        "credentials",
        "stack",
        "queues",
        "tables",
        "alarms",
        "api",
        "clock",
        "deliver",
        "queue",
        "redis",
        "archive",
    ] {
        assert!(well.out.lines().any(|line| line[4..].starts_with(name)), "{name}: {well:?}");
    }
    let (_, token) = Api::of(own.stack()).post("/tokens", r#"{"scope":"operator","ttl_s":600}"#).await;
    let holder = steadhook.with("STEADHOOK_TOKEN", token["token"].as_str().unwrap()).with("STEADHOOK_STACK_NAME", "");
    assert_eq!(holder.run(&["doctor"]).await.code, Some(0), "with a token");

    // What is told of a fault: its line, and a line with the next step.
    let fault = async |name: &str, told: &str| {
        let is_told = |line: &&str| line.starts_with("XX") && line[4..].starts_with(name) && line.contains(told);
        // The stack looks at its health every few seconds only.
        let seen = async {
            loop {
                let done = steadhook.run(&["doctor"]).await;
                if done.out.lines().any(|line| is_told(&line)) {
                    return done;
                }
            }
        };
        let done = tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{name}, {told} is not told"));
        assert_eq!(done.code, Some(1), "{done:?}");
        let mut after = done.out.lines().skip_while(|line| !is_told(line)).skip(1);
        assert!(after.next().is_some_and(|line| line.trim_start().starts_with('→')), "{done:?}");
    };
    own.stop_redis();
    fault("redis", "down").await;
    own.start_redis();
    own.stack().sqs().delete_queue().queue_url(own.stack().get("WAIT_QUEUE_URL")).send().await.unwrap();
    fault("queues", "WaitQueue cannot be read").await;
    let table = own.stack().get("HISTORY_TABLE");
    let keep = own.stack().dynamodb().update_table().table_name(table).deletion_protection_enabled(false);
    keep.send().await.unwrap();
    own.stack().dynamodb().delete_table().table_name(table).send().await.unwrap();
    fault("tables", "HistoryTable cannot be read").await;
    let findings = steadhook.run(&["doctor", "--output", "json"]).await;
    assert_eq!(findings.code, Some(1));
    let findings: Value = serde_json::from_str(&findings.out).unwrap();
    assert_eq!(findings["well"], false);
    let bad = findings["findings"].as_array().unwrap().iter().filter(|finding| finding["verdict"] == "bad");
    assert!(bad.clone().count() >= 2 && bad.clone().all(|finding| finding["next"].is_string()), "{findings}");
}

/// A path for a file of this test.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("steadhook-cli-{}-{name}", std::process::id()))
}
