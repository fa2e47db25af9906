//! What arguments mean: payloads, times, durations, headers.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use domain::time::Millis;
use serde_json::value::RawValue;

use crate::clock;
use crate::failure::Failure;

/// The longest input that is read: more than any request may have.
const MAX_INPUT: u64 = 8 << 20;

/// Bytes that an argument gives: itself, a file after `@`, or standard input for `-`.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn bytes(argument: &str) -> Result<Vec<u8>, Failure> {
    match argument.strip_prefix('@') {
        Some(path) => file(Path::new(path)),
        None if argument == "-" => bounded(&mut std::io::stdin().lock(), "standard input"),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// The bytes of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let mut file =
        std::fs::File::open(path).map_err(|error| Failure::Usage(format!("{name} cannot be read: {error}")))?;
    bounded(&mut file, &name)
}

fn bounded(from: &mut dyn Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut found = Vec::new();
    from.take(MAX_INPUT + 1)
        .read_to_end(&mut found)
        .map_err(|error| Failure::Usage(format!("{name} cannot be read: {error}")))?;
    let size = u64::try_from(found.len()).unwrap_or(u64::MAX);
    if size > MAX_INPUT { Err(Failure::Usage(format!("{name} has more than 8 MiB"))) } else { Ok(found) }
}

/// JSON that an argument gives, byte for byte.
///
/// # Errors
/// When it cannot be read, or is no JSON.
pub(crate) fn json(argument: &str) -> Result<Box<RawValue>, Failure> {
    let bytes = bytes(argument)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|error| Failure::Usage(format!("the JSON is not UTF-8: {error}")))?;
    serde_json::from_str(text).map_err(|error| {
        Failure::Usage(format!(
            "{argument:?} is no JSON: {error}\n  Quote it for the shell: '{{\"order\": 17}}', or use @file or -"
        ))
    })
}

/// Reads a duration such as `90s`, `2h 30m` or `30d`.
///
/// # Errors
/// When it is none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}. Write a duration such as 90s, 2h or 30d"))
}

/// Reads a time: RFC 3339, or a duration before now.
///
/// # Errors
/// When it is none.
pub(crate) fn past(text: &str) -> Result<Millis, String> {
    if let Some(at) = Millis::parse_rfc3339(text) {
        return Ok(at);
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "write a time such as 2026-05-01T12:00:00Z, or how long ago: 2h, 7d".to_owned())?;
    let ago = domain::time::whole_ms(ago);
    Ok(Millis(clock::now().0.saturating_sub(ago)))
}

/// The time that a list covers.
#[derive(Debug, clap::Args)]
pub(crate) struct Period {
    /// Only since this time, such as 2026-05-01T12:00:00Z, or so long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Millis>,
    /// Only before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Millis>,
}

impl Period {
    /// It as a query.
    pub(crate) fn query(&self) -> [(&'static str, Option<String>); 2] {
        [("since", self.since), ("until", self.until)].map(|(name, at)| (name, at.map(|at| at.to_string())))
    }
}

/// Reads a header, `name: value`.
///
/// # Errors
/// When it has no colon.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write a header as 'name: value'")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_gives_its_bytes_or_those_of_a_file() {
        assert_eq!(bytes("{ }").unwrap(), b"{ }");
        let file = std::env::temp_dir().join(format!("steadhook-input-{}", std::process::id()));
        std::fs::write(&file, "{\"a\": 1.50}\n").unwrap();
        assert_eq!(json(&format!("@{}", file.display())).unwrap().get(), "{\"a\": 1.50}");
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(json(&format!("@{}", file.display())), Err(Failure::Usage(_))));
        assert!(matches!(json("{a: 1}"), Err(Failure::Usage(_))));
    }

    #[test]
    fn times_are_given_in_full_or_relative_to_now() {
        assert_eq!(past("2026-05-01T12:00:00Z").unwrap(), Millis(1_777_636_800_000));
        let hour_ago = past("1h").unwrap();
        assert!(hour_ago.until(clock::now()).as_secs().abs_diff(3600) < 60);
        assert!(past("yesterday").is_err());
        assert_eq!(duration("2h 30m").unwrap(), Duration::from_secs(9000));
        assert!(duration("5").unwrap_err().contains("such as"));
        assert_eq!(header("X-A:  b:c ").unwrap(), ("x-a".to_owned(), "b:c".to_owned()));
        assert!(header("x").is_err());
    }
}
