//! Deployed local stacks: the one that `make test` starts, and those of single tests.

use std::collections::BTreeMap;

use adapters::aws::account::Account;
use adapters::config;
use adapters::config::reader::Environment;
use aws_sdk_sqs::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_types::SdkConfig;

/// The variables of `stack.env`.
#[derive(Clone, Debug)]
pub struct Stack(BTreeMap<String, String>);

impl Stack {
    /// The stack that `STEADHOOK_STACK` names.
    ///
    /// # Panics
    /// When there is none: run the tests by `make test`.
    #[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
    pub fn running() -> Self {
        let path = std::env::var("STEADHOOK_STACK").expect("no stack: run the tests by `make test`");
        Self::at(std::path::Path::new(&path))
    }

    fn at(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        });
        Self(lines.collect())
    }

    /// A line's value.
    ///
    /// # Panics
    /// When the line is missing.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("stack.env lacks {name}"))
    }

    /// All of its variables.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The local AWS, for the product's own clients.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn account(&self) -> Account {
        Environment::of(self.0.clone()).read(|reader| Ok(config::account(reader))).unwrap()
    }

    /// A plain client for SQS.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.sdk_config())
    }

    /// A plain client for DynamoDB.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.sdk_config())
    }

    /// A plain client for Secrets Manager.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.sdk_config())
    }

    /// A plain client for EventBridge.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn event_bridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.sdk_config())
    }

    fn sdk_config(&self) -> SdkConfig {
        let Account { region, credentials, endpoint, .. } = self.account();
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        config.set_endpoint_url(endpoint);
        config.build()
    }
}

/// Parameters of a stack whose processes are killed: `deliver` has little time.
pub const LITTLE_TIME: [&str; 4] =
    ["DeliverTimeoutS=16", "QueueVisibilityS=106", "DeliveryTimeoutMs=2000", "ConnectTimeoutMs=500"];
/// The timeout of `deliver` in such a stack.
const DELIVER_TIMEOUT_S: u32 = 16;
/// The timeout of `fanout` in every stack.
const FANOUT_TIMEOUT_S: u32 = 60;
/// The timeout of `archive` in every stack.
const ARCHIVE_TIMEOUT_S: u32 = 20;

/// A stack for one test that breaks things. It ends with this value.
pub struct OwnStack {
    dir: std::path::PathBuf,
    stack: Stack,
    parameters: Vec<String>,
    /// Where its functions find DynamoDB, if not where everything else is.
    tables: Option<String>,
}

impl OwnStack {
    /// Starts one with these template parameters, `Name=value`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(parameters: &[&str]) -> Self {
        Self::start_with(false, None, parameters)
    }

    /// The same, whose functions find DynamoDB at this URL.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with_tables(url: &str, parameters: &[&str]) -> Self {
        Self::start_with(false, Some(url), parameters)
    }

    /// The same with IAM enforced, for the roles of functions and for callers of the API.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_guarded(parameters: &[&str]) -> Self {
        Self::start_with(true, None, parameters)
    }

    fn start_with(guarded: bool, tables: Option<&str>, parameters: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("steadhook-stack-{}", std::process::id()));
        // What has started is stopped, even when the rest does not start.
        let (parameters_kept, tables_kept) = (parameters.iter().map(ToString::to_string), tables.map(str::to_owned));
        let mut own =
            Self { stack: Stack(BTreeMap::new()), dir, parameters: parameters_kept.collect(), tables: tables_kept };
        Self::script_with(&own.dir, guarded, tables, &[&["up"], parameters].concat());
        own.stack = Stack::at(&own.dir.join("stack.env"));
        own
    }

    fn script(dir: &std::path::Path, guarded: bool, arguments: &[&str]) {
        Self::script_with(dir, guarded, None, arguments);
    }

    fn script_with(dir: &std::path::Path, guarded: bool, tables: Option<&str>, arguments: &[&str]) {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let output = std::process::Command::new(format!("{root}/.local/venvs/ministack/bin/python"))
            .arg(format!("{root}/infra/local/stack.py"))
            .args(arguments)
            .env("STEADHOOK_LOCAL", dir)
            .env("STEADHOOK_GUARDED", guarded.to_string())
            .env("STEADHOOK_DYNAMODB", tables.unwrap_or_default())
            .output()
            .expect("the stack's script is missing: run the tests by `make test`");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// Deploys it again while it is at work, with these parameters beside those that it has.
    ///
    /// # Panics
    /// When the deployment fails.
    pub fn deploy_again(&self, changes: &[&str]) {
        let kept = self.parameters.iter().map(String::as_str);
        let arguments: Vec<&str> = ["up"].into_iter().chain(kept).chain(changes.iter().copied()).collect();
        Self::script_with(&self.dir, false, self.tables.as_deref(), &arguments);
    }

    /// Its addresses.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Shortens the visibility timeouts of the queues, so that a message whose consumer was
    /// killed comes back soon. The template has six times the timeout of a queue's function.
    /// The local AWS gives each batch to a function at once, so little more than the timeout
    /// itself is enough.
    ///
    /// # Panics
    /// When a queue refuses it.
    pub async fn shorten_visibility(&self) {
        let sqs = self.stack.sqs();
        for (queue, timeout_s) in [
            ("DELIVERY_QUEUE_URL", DELIVER_TIMEOUT_S),
            ("RETRY_QUEUE_URL", DELIVER_TIMEOUT_S),
            ("WAIT_QUEUE_URL", DELIVER_TIMEOUT_S),
            ("SLOW_QUEUE_URL", DELIVER_TIMEOUT_S),
            ("EVENT_QUEUE_URL", FANOUT_TIMEOUT_S),
            ("INGEST_QUEUE_URL", FANOUT_TIMEOUT_S),
            ("DEAD_LETTER_QUEUE_URL", ARCHIVE_TIMEOUT_S),
            ("INGEST_DEAD_LETTER_QUEUE_URL", ARCHIVE_TIMEOUT_S),
        ] {
            let visibility = (timeout_s + 4).to_string();
            let set = sqs.set_queue_attributes().queue_url(self.stack.get(queue));
            set.attributes(QueueAttributeName::VisibilityTimeout, visibility).send().await.unwrap();
        }
    }

    /// Ends its Redis at once.
    pub fn stop_redis(&self) {
        Self::script(&self.dir, false, &["redis", "stop"]);
    }

    /// Starts its Redis again, empty.
    pub fn start_redis(&self) {
        Self::script(&self.dir, false, &["redis", "start"]);
    }

    /// Restarts the local AWS, which keeps its state.
    pub fn restart_aws(&self) {
        Self::script(&self.dir, false, &["aws", "restart"]);
    }

    /// Replaces the binaries of the running functions with those of this folder.
    pub fn change_code(&self, folder: &str) {
        Self::script(&self.dir, false, &["code", folder]);
    }

    /// Process ids of a function's running instances.
    ///
    /// # Panics
    /// When processes cannot be listed.
    pub fn instances(&self, function: &str) -> Vec<i32> {
        let endpoint = format!("AWS_ENDPOINT_URL={}", self.stack.get("AWS_ENDPOINT_URL"));
        let name = format!("AWS_LAMBDA_FUNCTION_NAME=steadhook-{function}-");
        let is_ours = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            let mut lines = environment.split('\0');
            environment.split('\0').any(|line| line == endpoint) && lines.any(|line| line.starts_with(&name))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(is_ours).collect()
    }

    /// Ends the instances of a function with `SIGKILL`. Says how many there were.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn kill(&self, function: &str) -> usize {
        let pids = self.instances(function);
        for pid in &pids {
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
        pids.len()
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        Self::script(&self.dir, false, &["down"]);
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
