//! Clients that repeat a request with the same `reference_id` until they get an answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::torture::{Field, Told};

/// How many clients there are.
const CLIENTS: usize = 12;
/// Tries before a client gives up. That is a breach.
const TRIES: usize = 120;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Webhook {
    id: String,
    receiver: usize,
    payload: String,
    /// Whether it has a header that no client may set.
    invalid: bool,
}

/// Posts as many webhooks as planned, and some that are invalid.
pub(crate) async fn post_all(field: &Field) {
    let each = field.plan.webhooks.div_ceil(CLIENTS);
    let clients = (0..CLIENTS).map(|number| {
        let count = each.min(field.plan.webhooks.saturating_sub(number * each));
        Client::new(field, number).work(count)
    });
    futures_util::future::join_all(clients).await;
}

struct Client<'f> {
    field: &'f Field,
    number: usize,
    rng: fastrand::Rng,
    http: reqwest::Client,
}

impl<'f> Client<'f> {
    fn new(field: &'f Field, number: usize) -> Self {
        let rng = fastrand::Rng::with_seed(field.plan.seed.wrapping_mul(1000).wrapping_add(number as u64));
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { field, number, rng, http }
    }

    async fn work(mut self, count: usize) {
        let (mut made, largest) = (0, (count / 20).clamp(2, 40));
        while made < count {
            let size = if self.rng.bool() { 1 } else { self.rng.usize(2..=largest) }.min(count - made);
            let batch: Vec<Webhook> = (made..made + size).map(|n| self.webhook(n)).collect();
            made += size;
            self.deliver(batch).await;
            let share = self.rng.f64() * 2.0 * size as f64 / count as f64;
            tokio::time::sleep(self.field.plan.spread().mul_f64(share)).await;
        }
    }

    fn webhook(&mut self, n: usize) -> Webhook {
        let filler = if self.rng.u8(..) < 8 { "x".repeat(20_000) } else { "x".repeat(self.rng.usize(..300)) };
        Webhook {
            id: format!("t-{}-{n}", self.number),
            receiver: self.rng.usize(..self.field.receivers.len()),
            // Odd spacing, a number that no float can hold, and an escape: a payload is
            // delivered byte for byte.
            payload: format!(
                "{{ \"n\":{n}, \"exact\":12345678901234567890123 ,\"é\":\"\\u00e9\",\"filler\":\"{filler}\"}}"
            ),
            invalid: self.rng.u8(..) < 4,
        }
    }

    fn json(&self, webhook: &Webhook) -> String {
        let headers = if webhook.invalid { json!({ "webhook-signature": "v1,mine" }) } else { json!({}) };
        format!(
            "{{\"reference_id\":{},\"webhook_url\":{},\"headers\":{headers},\"payload\":{}}}",
            json!(webhook.id),
            json!(self.url(webhook)),
            webhook.payload
        )
    }

    fn url(&self, webhook: &Webhook) -> String {
        self.field.receivers[webhook.receiver].url()
    }

    /// Repeats the webhooks that got no answer until all have one.
    async fn deliver(&mut self, mut open: Vec<Webhook>) {
        for attempt in 0..TRIES {
            let answers = self.ask(&open).await;
            let mut left = Vec::new();
            for (webhook, answer) in open.into_iter().zip(answers) {
                match answer {
                    Some(200 | 202) => self.told(webhook),
                    Some(422) if webhook.invalid => self.field.books.open().refused.push(webhook.id),
                    Some(code @ (400..=499)) if code != 429 => {
                        self.field.books.breach(format!("{} is refused with {code}", webhook.id));
                    }
                    _ => left.push(webhook),
                }
            }
            if left.is_empty() {
                return;
            }
            open = left;
            self.field.books.open().repeated += 1;
            tokio::time::sleep(Duration::from_millis(100 * (attempt as u64 + 1).min(20))).await;
        }
        for webhook in open {
            self.field.books.breach(format!("{} was never accepted", webhook.id));
        }
    }

    fn told(&self, webhook: Webhook) {
        if webhook.invalid {
            self.field.books.breach(format!("{} is invalid and was accepted", webhook.id));
        }
        let told = Told { receiver: webhook.receiver, payload: webhook.payload, at: Instant::now() };
        self.field.books.open().told.insert(webhook.id, told);
    }

    /// The status of each webhook; none when there is no usable answer.
    async fn ask(&self, open: &[Webhook]) -> Vec<Option<u64>> {
        let api = self.field.stack().get("API_URL");
        if let [webhook] = open {
            let (code, _) = self.post(&format!("{api}/webhooks"), self.json(webhook)).await.unwrap_or_default();
            return vec![(code > 0).then_some(code)];
        }
        let items: Vec<String> = open.iter().map(|webhook| self.json(webhook)).collect();
        let body = format!("{{\"webhooks\":[{}]}}", items.join(","));
        let (code, answer) = self.post(&format!("{api}/webhooks/batch"), body).await.unwrap_or_default();
        if code != 200 {
            return vec![(code > 0).then_some(code); open.len()];
        }
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        let of = |result: &Value| result["error"]["status"].as_u64().or(result["webhook_id"].as_str().map(|_| 202));
        (0..open.len()).map(|i| of(results.get(i)?)).collect()
    }

    async fn post(&self, url: &str, body: String) -> Option<(u64, Value)> {
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        let mut response = request.send().await.ok()?;
        let code = u64::from(response.status().as_u16());
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            text.extend_from_slice(&chunk);
        }
        Some((code, serde_json::from_slice(&text).unwrap_or_default()))
    }
}
