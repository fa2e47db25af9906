//! A caller of the API that repeats a request until it is answered. It signs nothing, or has
//! a token.

use std::time::Duration;

use serde_json::Value;

use crate::torture::{Field, Plan, Shared, Weather};

/// Tries before a caller gives up. That is a breach.
const TRIES: u64 = 120;
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the API said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) etag: String,
}

/// A caller of the API.
pub(crate) struct Caller {
    http: reqwest::Client,
    api: String,
    books: Shared,
    weather: Weather,
    /// Whether the version before answers now and then, which has no tenants.
    meets_former: bool,
    /// Who calls below `/api`, if anybody.
    pub(crate) token: Option<String>,
}

impl Caller {
    pub(crate) fn of(field: &Field) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let api = field.stack().get("API_URL").to_owned();
        let Plan { weather, other, .. } = &field.plan;
        let meets_former = other.is_some() && *weather != Weather::Calm;
        Self { http, api, books: field.books.clone(), weather: *weather, meets_former, token: None }
    }

    /// Asks once. None when there is no usable answer.
    pub(crate) async fn once(&self, method: &str, path: &str, body: String, if_match: &str) -> Option<Answer> {
        let prefix = if self.token.is_some() { "/api" } else { "" };
        let url = format!("{}{prefix}{path}", self.api);
        let mut request = self.http.request(method.parse().unwrap(), url).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !if_match.is_empty() {
            request = request.header("if-match", if_match);
        }
        let mut response = request.body(body).send().await.ok()?;
        let code = response.status().as_u16();
        // A gate that cannot read the registry, or does not know a new master key yet, refuses.
        let is_refused = self.token.is_some() && self.weather != Weather::Calm && code == 403;
        let is_unknown = self.meets_former && method == "POST" && matches!(code, 404 | 405);
        if code >= 500 || code == 429 || is_refused || is_unknown {
            return None;
        }
        let etag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            text.extend_from_slice(&chunk);
        }
        Some(Answer { code, body: serde_json::from_slice(&text).unwrap_or_default(), etag })
    }

    /// Asks until there is an answer, which must have one of these codes.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: String, fine: &[u16]) -> Answer {
        for attempt in 0..TRIES {
            let answer = self.once(method, path, body.clone(), "").await;
            let is_unknown = |code: u16| self.meets_former && matches!(code, 404 | 405) && !fine.contains(&code);
            if let Some(answer) = answer.filter(|answer| !is_unknown(answer.code)) {
                if !fine.contains(&answer.code) {
                    self.books.breach(format!("{method} {path} is answered with {}: {}", answer.code, answer.body));
                }
                return answer;
            }
            self.books.open().repeated += 1;
            self.pause(attempt).await;
        }
        self.books.breach(format!("{method} {path} was never answered"));
        Answer::default()
    }

    /// Waits before the next try.
    pub(crate) async fn pause(&self, attempt: u64) {
        tokio::time::sleep(Duration::from_millis(100 * (attempt + 1).min(20))).await;
    }
}

/// Every page of a list, as `field` of its answers has the entries.
pub(crate) async fn paged(caller: &Caller, path: &str, field: &str) -> Vec<Value> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let answer = caller.ask("GET", &format!("{path}{separator}limit=50{cursor}"), String::new(), &[200]).await;
        entries.extend(answer.body[field].as_array().cloned().unwrap_or_default());
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}
