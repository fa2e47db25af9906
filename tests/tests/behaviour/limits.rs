//! What a hostile or broken request may cost: memory, bytes of an answer, and work.

use std::fmt::Write as _;

use adapters::aws::sqs::QueueName;
use serde_json::{Value, json};
use tests::world::World;

/// The largest request that is read.
const REQUEST: usize = 4 * 1024 * 1024;
/// Lambda's limit for an answer, with the text of its body as a JSON string in it.
const ANSWER: usize = 6_000_000;

/// A request of as many bytes as are read: `begin`, `part` over and over, `end`. Gives how
/// often the part stands in it.
fn filled(begin: &str, part: &str, end: &str) -> (String, usize) {
    let times = (REQUEST - begin.len() - end.len()) / part.len();
    (format!("{begin}{}{end}", part.repeat(times)), times)
}

/// Bytes of an answer as Lambda counts them.
fn answered(answer: &Value) -> usize {
    serde_json::to_string(&answer.to_string()).unwrap().len()
}

/// The memory of this process at its highest, in KiB, since the last call. Each test is a
/// process of its own.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Faults that are listed, and how many there are.
fn told(problem: &Value) -> (usize, String) {
    let detail = problem["detail"].as_str().unwrap().to_owned();
    (problem["errors"].as_array().unwrap().len(), detail)
}

#[tokio::test]
async fn four_mebibytes_of_faults_get_a_small_answer_and_cost_little_memory() {
    let world = World::new().await;
    world.post("/webhooks", "{}").await;
    let headers = r#"{"webhook_url":"https://a.example","payload":1,"headers":{"#;
    for (path, begin, part, end, more) in [
        ("/webhooks", "{", r#""":0,"#, r#""":0}"#, 3),
        ("/webhooks", "{", r#""payload":0,"#, r#""payload":0}"#, 1),
        ("/webhooks", headers, r#""a":0,"#, r#""a":0}}"#, 0),
        ("/webhooks/batch", "{", r#""":0,"#, r#""webhooks":[1]}"#, 0),
        ("/webhooks/batch", r#"{"webhooks":["#, "0,", "0]}", 0),
        ("/dead-letters/redrive", "{", r#""":0,"#, r#""":0}"#, 1),
        ("/dead-letters/redrive", r#"{"filter":{"#, r#""":0,"#, r#""":0}}"#, 1),
        ("/dead-letters/redrive", r#"{"filter":{"#, r#""reason":0,"#, r#""reason":0}}"#, 1),
        ("/circuit-breakers/reset", "{", r#""":0,"#, r#""":0}"#, 2),
    ] {
        let (body, times) = filled(begin, part, end);
        peak_kib();
        let before = peak_kib();
        let (code, answer) = world.post(path, body).await;
        let grown = peak_kib().saturating_sub(before);
        assert_eq!(code, 422, "{path} {part}");
        assert!(grown < 8 * 1024, "{path} {part}: {grown} KiB");
        assert!(answered(&answer) < 20_000, "{path} {part}: {} bytes", answered(&answer));
        let (listed, detail) = told(&answer);
        match (path, begin) {
            ("/webhooks/batch", r#"{"webhooks":["#) => assert_eq!(listed, 1, "{answer}"),
            // More headers than are looked at one by one.
            ("/webhooks", b) if b == headers => {
                assert_eq!((listed, detail.as_str()), (100, "The request has 102 faults. The first 100 are listed."));
                assert_eq!(answer["errors"][0]["message"], "at most 20 headers");
            }
            _ => {
                let wanted = format!("The request has {} faults. The first 100 are listed.", times + more);
                assert_eq!((listed, detail), (100, wanted), "{path} {begin}{part}");
            }
        }
    }
}

#[tokio::test]
async fn a_name_of_four_mebibytes_is_told_by_its_beginning() {
    let world = World::new().await;
    let (body, _) = filled(r#"{"webhook_url":"https://a.example","payload":1,""#, "é", r#"":0}"#);
    let (code, answer) = world.post("/webhooks", body).await;
    assert_eq!(code, 422);
    assert_eq!(answer["errors"], json!([{"pointer": format!("/{}…", "é".repeat(128)), "message": "unknown field"}]));
    let (body, _) = filled("{\"webhook_url\":\"https://a.example\",\"payload\":1,\"headers\":{\"", "/", r#"":"x"}}"#);
    let (_, answer) = world.post("/webhooks", body).await;
    assert!(answered(&answer) < 2_000, "{answer}");
    let query = "x".repeat(9_000);
    let (code, answer) = world.get(&format!("/dead-letters?{query}=1&{}", "a&".repeat(4_000))).await;
    assert_eq!((code, told(&answer).0), (422, 100));
    assert!(answered(&answer) < 20_000);
}

/// An item with as many faults as can be made, each as long as it can be.
fn worst_item(id: usize) -> String {
    let mut item = "{".to_owned();
    for i in 0..21 {
        // Written with six bytes, and so it is in the answer.
        write!(item, "\"{i:02}{}\":0,", "\\u0001".repeat(320)).unwrap();
    }
    write!(item, "\"reference_id\":\"{id}\"}}").unwrap();
    item
}

#[tokio::test]
async fn what_a_batch_queues_is_never_lost_with_an_answer_that_does_not_fit() {
    let world = World::new().await;
    let good = json!({ "webhook_url": world.receiver.url("/"), "payload": 1, "reference_id": "good" });
    let items: Vec<String> = (0..99).map(worst_item).chain([good.to_string()]).collect();
    let body = format!("{{\"webhooks\":[{}]}}", items.join(","));
    assert!(body.len() <= REQUEST);
    let (code, answer) = world.post("/webhooks/batch", body.clone()).await;
    assert_eq!((code, &answer["accepted"], &answer["rejected"]), (200, &json!(1), &json!(99)));
    assert_eq!(
        told(&answer["results"][0]["error"]),
        (20, "The request has 23 faults. The first 20 are listed.".into())
    );
    assert!(answered(&answer) < ANSWER / 2, "{} bytes", answered(&answer));
    // The same request again is a duplicate, not a second delivery.
    let (_, again) = world.post("/webhooks/batch", body).await;
    assert_eq!(again["results"][99]["duplicate"], true);
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_wherever_a_body_is_read() {
    let world = World::new().await;
    for path in ["/webhooks", "/webhooks/batch", "/dead-letters/redrive", "/circuit-breakers/reset"] {
        let fitting = format!("{{\"x\":\"{}\"}}", "x".repeat(REQUEST - 8));
        assert_eq!(fitting.len(), REQUEST);
        assert_eq!(world.post(path, fitting.clone()).await.0, 422, "{path}");
        let (code, answer) = world.post(path, format!("{fitting} ")).await;
        assert_eq!((code, &answer["type"]), (413, &json!("urn:steadhook:problem:too-large")), "{path}");
    }
    assert!(world.queues.all(QueueName::Delivery).is_empty());
}
