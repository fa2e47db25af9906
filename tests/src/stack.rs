//! The deployed local stack that `make test` starts for the tests.

use std::collections::BTreeMap;

use adapters::aws::Account;
use adapters::config::Environment;

/// What `stack.env` says.
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
            let (name, value) = line.split_once('=')?;
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

    /// All of its lines.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The local AWS as the product's clients see it.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn account(&self) -> Account {
        let environment = Environment::of(self.0.clone());
        environment.account().unwrap()
    }
}

/// A stack of a test's own, for tests that break things. It ends with this value.
pub struct OwnStack {
    dir: std::path::PathBuf,
    stack: Stack,
}

impl OwnStack {
    /// Starts one with these template parameters, `Name=value`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(parameters: &[&str]) -> Self {
        Self::start_with(false, parameters)
    }

    /// The same with IAM enforced: for every function's role, and for who calls the API.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_guarded(parameters: &[&str]) -> Self {
        Self::start_with(true, parameters)
    }

    fn start_with(guarded: bool, parameters: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("steadhook-stack-{}", std::process::id()));
        // What has come up ends with it, even when the rest does not.
        let mut own = Self { stack: Stack(BTreeMap::new()), dir };
        Self::script(&own.dir, guarded, &[&["up"], parameters].concat());
        own.stack = Stack::at(&own.dir.join("stack.env"));
        own
    }

    fn script(dir: &std::path::Path, guarded: bool, arguments: &[&str]) {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let output = std::process::Command::new(format!("{root}/.local/venvs/ministack/bin/python"))
            .arg(format!("{root}/infra/local/stack.py"))
            .args(arguments)
            .env("STEADHOOK_LOCAL", dir)
            .env("STEADHOOK_GUARDED", guarded.to_string())
            .output()
            .expect("the stack's script is missing: run the tests by `make test`");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// Where it is.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Ends its Redis at once.
    pub fn stop_redis(&self) {
        Self::script(&self.dir, false, &["redis", "stop"]);
    }

    /// Starts its Redis again, empty.
    pub fn start_redis(&self) {
        Self::script(&self.dir, false, &["redis", "start"]);
    }

    /// Stops the local AWS and starts it again with all that it held.
    pub fn restart_aws(&self) {
        Self::script(&self.dir, false, &["aws", "restart"]);
    }

    /// Puts the binaries of this folder into the functions, while they work.
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

    /// Ends a function's instances with `SIGKILL`; says how many there were.
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
