//! Takes settings one by one and gathers what is wrong with them, so that every fault
//! is told at once and no value is ever shown. Only this file reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything that is wrong with the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<(String, String)>,
}

impl ConfigError {
    /// Each faulty setting's name, and what is wrong with it.
    pub fn faults(&self) -> &[(String, String)] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.faults.len())?;
        self.faults.iter().try_for_each(|(name, why)| write!(f, " {name}: {why};"))
    }
}

impl std::error::Error for ConfigError {}

/// The environment's variables.
#[derive(Clone)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn of_process() -> Self {
        // A variable that is not Unicode is not one of our settings.
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// Given ones.
    pub fn of<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The level to log at: Lambda's own setting, `info` without one.
    pub fn log_level(&self) -> &str {
        self.0.get("AWS_LAMBDA_LOG_LEVEL").map_or("info", String::as_str)
    }

    /// The function's version, if it is a published one.
    pub fn published_version(&self) -> Option<String> {
        self.0.get("AWS_LAMBDA_FUNCTION_VERSION").filter(|version| *version != "$LATEST").cloned()
    }

    /// Reads what `read` takes.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn read<C>(&self, read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>) -> Result<C, ConfigError> {
        let mut reader = Reader { environment: self, faults: Vec::new() };
        match read(&mut reader) {
            Ok(config) if reader.faults.is_empty() => Ok(config),
            Ok(_) | Err(Faulted(())) => Err(ConfigError { faults: reader.faults }),
        }
    }
}

/// Proof that a fault was noted: only [`Reader::refuse`] makes it.
#[derive(Debug)]
pub struct Faulted(());

/// Takes settings one by one and gathers what is wrong with them. After a fault it goes
/// on with a placeholder that never leaves it.
pub struct Reader<'a> {
    environment: &'a Environment,
    faults: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    /// Notes what is wrong with a setting, and gives proof of it.
    pub fn refuse(&mut self, name: &str, why: impl Into<String>) -> Faulted {
        self.fault(name, why);
        Faulted(())
    }

    /// Notes what is wrong with a setting.
    pub fn fault(&mut self, name: &str, why: impl Into<String>) {
        let fault = (name.to_owned(), why.into());
        // A setting that two groups need is told once.
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// A setting's value; empty counts as absent, since templates cannot leave one out.
    pub fn optional(&self, name: &str) -> Option<&'a str> {
        self.environment.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// A setting that must be there.
    pub fn required(&mut self, name: &str) -> &'a str {
        let value = self.optional(name);
        if value.is_none() {
            self.fault(name, "is missing");
        }
        value.unwrap_or_default()
    }

    /// A whole number in a range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.optional(name) else {
            self.fault(name, "is missing");
            return *range.start();
        };
        match value.trim().parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.fault(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// Whole seconds in a range.
    pub fn seconds(&mut self, name: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(name, range))
    }

    /// Whole milliseconds in a range.
    pub fn milliseconds(&mut self, name: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(name, range))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.required(name) {
            "true" => true,
            "false" | "" => false,
            _ => {
                self.fault(name, "must be true or false");
                false
            }
        }
    }
}
