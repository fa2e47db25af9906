//! A client of a deployed stack's API.

use std::time::Duration;

use reqwest::Url;
use serde_json::Value;

use crate::contract;
use crate::stack::Stack;

/// A client of a stack's HTTP API.
pub struct Api {
    stack: Stack,
    http: reqwest::Client,
}

impl Api {
    /// A client of this stack.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    pub fn of(stack: &Stack) -> Self {
        Self { stack: stack.clone(), http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// The stack of the API.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let request = request.build().unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let mut response = self.http.execute(request).await.unwrap();
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            body.extend_from_slice(&chunk);
        }
        let base = Url::parse(self.stack.get("API_URL")).unwrap();
        let path = url.path().strip_prefix(base.path()).unwrap_or_default();
        contract::check(method.as_str(), path, code, kind.as_deref(), &String::from_utf8_lossy(&body));
        (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Posts JSON: the status code and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: impl Into<String>) -> (u16, Value) {
        let url = format!("{}{path}", self.stack.get("API_URL"));
        self.send(self.http.post(url).header("content-type", "application/json").body(body.into())).await
    }

    /// Deletes: the status code and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(self.http.delete(format!("{}{path}", self.stack.get("API_URL")))).await
    }

    /// Gets JSON: the status code and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(format!("{}{path}", self.stack.get("API_URL")))).await
    }

    /// Waits until the delivery has this status, for so long at most.
    ///
    /// # Panics
    /// When it does not get it in time.
    pub async fn until(&self, id: &str, status: &str, patience: Duration) -> Value {
        let looking = async {
            loop {
                let (code, record) = self.get(&format!("/webhook-statuses/{id}")).await;
                if code == 200 && record["status"] == status {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let found = tokio::time::timeout(patience, looking).await;
        found.unwrap_or_else(|_| panic!("{id} is not {status} within {patience:?}"))
    }
}
