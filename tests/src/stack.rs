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
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
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

    /// The local AWS as the product's clients see it.
    ///
    /// # Panics
    /// When `stack.env` lacks a line.
    pub fn account(&self) -> Account {
        let environment = Environment::of(self.0.clone());
        environment.account().unwrap()
    }
}
