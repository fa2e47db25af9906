//! CloudWatch's embedded metric format (EMF): one line of the log for each invocation.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::names;
use super::recorder::Drained;
use crate::telemetry::{self, chain};

/// Most values of one metric in one EMF document (CloudWatch, EMF specification).
const MAX_EMF_VALUES: usize = 100;

/// What every line of CloudWatch's embedded metric format begins with.
pub(super) struct Head<'a> {
    /// The stack's name, the only dimension.
    pub(super) stack: &'a str,
    /// Who writes.
    pub(super) function: &'a str,
    /// When, in ms since the epoch.
    pub(super) at_ms: u64,
    /// The published version that writes, if it is one: alarms that roll a version back
    /// watch it alone.
    pub(super) version: Option<&'a str>,
}

impl Head<'_> {
    /// The line's members, with what tells CloudWatch which of them are metrics. The member
    /// `error` counts the version's invocations that failed.
    fn write<'m, S: Serializer, V: Serialize>(
        &self,
        serializer: S,
        members: impl IntoIterator<Item = (&'m str, &'static str, V)>,
        error: Option<&'m str>,
    ) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Name<'m> {
            name: &'m str,
            unit: &'static str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Metrics<'m> {
            namespace: &'static str,
            dimensions: [&'static [&'static str]; 1],
            metrics: Vec<Name<'m>>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Directive<'m> {
            timestamp: u64,
            cloud_watch_metrics: Vec<Metrics<'m>>,
        }
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("stack", self.stack)?;
        line.serialize_entry("function", self.function)?;
        let mut metrics = Vec::new();
        for (name, unit, value) in members {
            line.serialize_entry(name, &value)?;
            metrics.push(Name { name, unit });
        }
        let of = |dimensions, metrics| Metrics { namespace: "Steadhook", dimensions: [dimensions], metrics };
        let mut all = vec![of(&["stack"][..], metrics)];
        if let Some((version, error)) = self.version.zip(error) {
            line.serialize_entry("version", version)?;
            all.push(of(&["stack", "version"][..], vec![Name { name: error, unit: "Count" }]));
        }
        line.serialize_entry("_aws", &Directive { timestamp: self.at_ms, cloud_watch_metrics: all })?;
        line.end()
    }
}

/// Writes sums and observations as one line.
pub(super) fn write(head: Head<'_>, told: &Drained) {
    write_line(&Emf { head, told });
}

/// Sums and observations as one line.
struct Emf<'a> {
    head: Head<'a>,
    told: &'a Drained,
}

/// A metric's value in a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Sum(u64),
    Values(&'a [f64]),
}

impl Serialize for Emf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sums = self.told.sums.iter().map(|(series, sum)| (series.dotted(), "Count", Told::Sum(*sum)));
        let values = self.told.observations.iter().map(|(series, values)| {
            (series.dotted(), "Seconds", Told::Values(&values[..values.len().min(MAX_EMF_VALUES)]))
        });
        // A success is a 0, so that an alarm can compare.
        let error = self.head.version.map(|_| names::failed_invocations(self.head.function));
        let error = error.as_deref();
        let missing = error.filter(|name| !self.told.sums.keys().any(|series| series.dotted() == *name));
        let missing = missing.map(|name| (name, "Count", Told::Sum(0)));
        self.head.write(serializer, sums.chain(values).chain(missing), error)
    }
}

/// Values of this moment as one line.
struct Gauges<'a> {
    head: Head<'a>,
    gauges: &'a [(&'static str, &'static str, u64)],
}

impl Serialize for Gauges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.head.write(serializer, self.gauges.iter().map(|(name, unit, value)| (*name, *unit, value)), None)
    }
}

/// Writes values of this moment as one line of EMF: name, unit, value.
pub fn write_gauges(stack: &str, function: &str, at_ms: u64, gauges: &[(&'static str, &'static str, u64)]) {
    write_line(&Gauges { head: Head { stack, function, at_ms, version: None }, gauges });
}

/// Logs are lines of JSON on the standard output, and so is this.
fn write_line(line: &impl Serialize) {
    match serde_json::to_string(line) {
        Ok(line) => telemetry::write_line(&line),
        Err(error) => tracing::error!(error = %chain(&error), "metrics cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line(version: Option<&str>) -> Value {
        let head = Head { stack: "s", function: "deliver", at_ms: 7, version };
        serde_json::to_value(Emf { head, told: &Drained::default() }).unwrap()
    }

    #[test]
    fn a_published_version_tells_of_its_successes_too() {
        let line = line(Some("12"));
        let name = "task_invocations_total.deliver.error";
        assert_eq!((&line["version"], &line[name]), (&json!("12"), &json!(0)));
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
        assert_eq!(directives[1]["Dimensions"], json!([["stack", "version"]]));
        assert_eq!(directives[1]["Metrics"], json!([{ "Name": name, "Unit": "Count" }]));
    }

    #[test]
    fn what_is_not_published_has_no_version() {
        let line = line(None);
        assert_eq!(line.get("version"), None);
        assert_eq!(line["_aws"]["CloudWatchMetrics"].as_array().unwrap().len(), 1);
    }
}
