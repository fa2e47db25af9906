//! Tells what each function would refuse to start with. It reads the environments of
//! functions from the standard input, as JSON by function and variable, and writes the
//! faults as JSON. `infra/local/parameters.py` runs it before a deployment.

use std::collections::BTreeMap;
use std::io;

use adapters::config::reader::{Environment, Faulted, Reader};
use adapters::process;
use anyhow::{Context as _, bail};
use serde::Serialize;

/// A setting that a function refuses.
#[derive(Serialize)]
struct Fault {
    function: String,
    setting: String,
    why: String,
}

fn main() -> anyhow::Result<()> {
    let environments: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_reader(io::stdin().lock()).context("the standard input")?;
    let mut faults = Vec::new();
    for (function, variables) in environments {
        for (setting, why) in refused(&function, &Environment::of(variables))? {
            faults.push(Fault { function: function.clone(), setting, why });
        }
    }
    serde_json::to_writer(io::stdout().lock(), &faults).context("the standard output")
}

/// The settings that a function refuses, and why.
fn refused(function: &str, environment: &Environment) -> anyhow::Result<Vec<(String, String)>> {
    Ok(match function {
        "archive" => faults(environment, fn_archive::config::read),
        "authorize" => faults(environment, fn_authorize::config::read),
        "cleanup" => faults(environment, fn_cleanup::config::read),
        "console" => faults(environment, fn_console::config::read),
        "deliver" => faults(environment, fn_deliver::config::read),
        "endpoints" => faults(environment, fn_endpoints::config::read),
        "enqueue" => faults(environment, fn_enqueue::config::read),
        "fanout" => faults(environment, fn_fanout::config::read),
        "health" => faults(environment, fn_health::config::read),
        "metrics" => faults(environment, fn_metrics::config::read),
        "operate" => faults(environment, fn_operate::config::read),
        _ => bail!("there is no function {function}"),
    })
}

fn faults<C>(
    environment: &Environment,
    read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>,
) -> Vec<(String, String)> {
    process::settings(environment, read).err().map(|error| error.faults().to_vec()).unwrap_or_default()
}
