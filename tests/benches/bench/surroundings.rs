//! What stands around a measured process: a fast receiver, and an endpoint that
//! speaks as much of SQS and DynamoDB as the functions use, and counts.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use domain::endpoint::Card;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Answer = Response<Full<Bytes>>;

/// Serves HTTP/1.1 on a free port until the process ends.
async fn serve<F, S>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> S + Clone + Send + 'static,
    S: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

/// A receiver that answers at once with the status that the path names.
pub(crate) struct Sink {
    address: SocketAddr,
    posts: Arc<AtomicUsize>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let posts = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&posts);
        let address = serve(move |request: Request<Incoming>| {
            let posts = Arc::clone(&counting);
            async move {
                let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap_or(200);
                drop(request.into_body().collect().await);
                posts.fetch_add(1, Ordering::SeqCst);
                Response::builder().status(status).body(Full::default()).unwrap()
            }
        })
        .await;
        Self { address, posts }
    }

    /// A URL that answers with this status.
    pub(crate) fn url(&self, status: u16) -> String {
        format!("http://{}/{status}", self.address)
    }

    /// The same made this long by a query, if it is shorter.
    pub(crate) fn long_url(&self, status: u16, bytes: usize) -> String {
        let url = self.url(status);
        if bytes <= url.len() { url } else { format!("{url}?{}", "q".repeat(bytes - url.len() - 1)) }
    }

    pub(crate) fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Kept {
    calls: HashMap<String, usize>,
    /// Message bodies by queue.
    queues: HashMap<String, Vec<String>>,
    /// Items of the registry by sort key.
    cards: BTreeMap<String, Value>,
}

/// SQS and DynamoDB, as far as the functions use them. It keeps what is queued.
#[derive(Clone)]
pub(crate) struct Cloud {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let keeping = Arc::clone(&kept);
        let address = serve(move |request: Request<Incoming>| {
            let kept = Arc::clone(&keeping);
            async move {
                let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
                let target = target.unwrap_or_default().to_owned();
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let answer = kept.lock().unwrap().answer(&target, &body);
                Response::builder()
                    .header("content-type", "application/x-amz-json-1.0")
                    .body(Full::new(Bytes::from(answer.to_string())))
                    .unwrap()
            }
        })
        .await;
        Self { address, kept }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a service was called so far, by the beginning of its targets' names.
    pub(crate) fn calls(&self, service: &str) -> usize {
        let kept = self.kept.lock().unwrap();
        kept.calls.iter().filter(|(target, _)| target.starts_with(service)).map(|(_, count)| count).sum()
    }

    /// Puts a card into the registry.
    pub(crate) fn register(&self, card: &Card) {
        let (pk, sk) = (format!("T#{}", card.tenant), format!("E#{}", card.id));
        let text = serde_json::to_string(card).unwrap();
        let item = json!({
            "pk": { "S": pk }, "sk": { "S": sk }, "card": { "S": text }, "version": { "N": card.version.to_string() },
        });
        self.kept.lock().unwrap().cards.insert(sk, item);
    }

    /// Raises the revision of the tenant to this.
    pub(crate) fn set_revision(&self, revision: u64) {
        let item = json!({ "pk": { "S": "T#acme" }, "sk": { "S": "R" }, "revision": { "N": revision.to_string() } });
        self.kept.lock().unwrap().cards.insert("R".to_owned(), item);
    }

    /// Empties the registry.
    pub(crate) fn deregister(&self) {
        self.kept.lock().unwrap().cards.clear();
    }

    /// How many messages a queue holds, named by the last part of its URL.
    pub(crate) fn waiting(&self, queue: &str) -> usize {
        self.kept.lock().unwrap().queues.get(queue).map_or(0, Vec::len)
    }

    /// Empties a queue, named by the last part of its URL.
    pub(crate) fn take(&self, queue: &str) -> Vec<String> {
        self.kept.lock().unwrap().queues.remove(queue).unwrap_or_default()
    }
}

impl Kept {
    /// The items of a `BatchGetItem`.
    fn found(&self, body: &Bytes) -> Value {
        let request: Value = serde_json::from_slice(body).unwrap();
        let (table, wanted) = request["RequestItems"].as_object().unwrap().iter().next().unwrap();
        let keys = wanted["Keys"].as_array().unwrap().iter();
        let items: Vec<&Value> = keys.filter_map(|key| self.cards.get(key["sk"]["S"].as_str().unwrap())).collect();
        json!({ "Responses": { table: items }, "UnprocessedKeys": {} })
    }

    /// A part of the cards, as `Query` gives it: at most a megabyte.
    fn listed(&self, body: &Bytes) -> Value {
        let request: Value = serde_json::from_slice(body).unwrap();
        let limit = request["Limit"].as_u64().unwrap() as usize;
        let start = request["ExclusiveStartKey"]["sk"]["S"].as_str();
        let bounds = (start.map_or(Bound::Included("E#"), Bound::Excluded), Bound::Excluded("F"));
        let mut bytes = 0;
        let mut items = Vec::new();
        let mut rest = self.cards.range::<str, _>(bounds).map(|(_, item)| item).peekable();
        while let Some(item) = rest.next_if(|_| items.len() < limit && bytes < 1_000_000) {
            bytes += item["card"]["S"].as_str().unwrap().len() + 64;
            items.push(item);
        }
        let last = items.last().filter(|_| rest.peek().is_some());
        let last = last.map(|item| json!({ "pk": item["pk"], "sk": item["sk"] }));
        let mut answer = json!({ "Count": items.len(), "Items": items });
        if let Some(last) = last {
            answer["LastEvaluatedKey"] = last;
        }
        answer
    }

    fn answer(&mut self, target: &str, body: &Bytes) -> Value {
        *self.calls.entry(target.to_owned()).or_default() += 1;
        if target.ends_with(".BatchGetItem") {
            return self.found(body);
        }
        if target.ends_with(".Query") {
            return self.listed(body);
        }
        if target != "AmazonSQS.SendMessageBatch" {
            return json!({});
        }
        let mut request: Value = serde_json::from_slice(body).unwrap();
        let queue = request["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
        let mut successful = Vec::new();
        for entry in request["Entries"].as_array_mut().unwrap() {
            let Value::String(body) = entry["MessageBody"].take() else { panic!("an entry without a body") };
            self.queues.entry(queue.clone()).or_default().push(body);
            successful.push(json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "" }));
        }
        json!({ "Successful": successful, "Failed": [] })
    }
}
