//! Filters against the answers of AWS's own matcher.

use std::collections::BTreeMap;
use std::path::Path;

use domain::filter::event::Event;
use domain::filter::{Filter, MAX_STEPS, Match};
use serde_json::value::RawValue;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/event-patterns.jsonl");
/// Names another file of the same form.
const MORE: &str = "EVENT_PATTERN_VECTORS";
/// Disagreements that are shown.
const SHOWN: usize = 10;
/// More steps than any of the vectors needs.
const FEW_STEPS: u64 = 2_000;

/// The fields of an object as they were written: in a pattern, their order matters.
fn fields(text: &str) -> BTreeMap<&str, &RawValue> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a filter says of the event of this line, and what AWS's matcher says: `None` if the
/// pattern is refused.
fn answers(line: &str) -> (Option<bool>, Option<bool>) {
    let vector = fields(line);
    let wanted = serde_json::from_str(vector["matches"].get()).unwrap();
    let Ok(filter) = Filter::read("/filter", vector["pattern"]) else { return (None, wanted) };
    let event = fields(vector["event"].get());
    let event_type: String = serde_json::from_str(event["event_type"].get()).unwrap();
    let (found, steps) = filter.matches_within(&Event::new(&event_type, event["payload"]), MAX_STEPS);
    assert!(steps < FEW_STEPS, "{steps} steps: {line}");
    match found {
        Match::Matched => (Some(true), wanted),
        Match::NotMatched => (Some(false), wanted),
        Match::TooMuchWork => panic!("too much work: {line}"),
    }
}

/// Checks all lines of a file, and gives their number.
fn all_agree(file: &Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut count, mut differing) = (0, Vec::new());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (found, wanted) = answers(line);
        count += 1;
        if found != wanted {
            differing.push(format!("{found:?} for {line}"));
        }
    }
    let (differ, shown) = (differing.len(), differing.get(..SHOWN).unwrap_or(&differing).join("\n"));
    assert_eq!(differ, 0, "{differ} of {count} in {} differ:\n{shown}", file.display());
    count
}

#[test]
#[allow(clippy::disallowed_methods, reason = "only tests read this variable")]
fn filters_answer_as_the_matcher_of_aws_does() {
    assert_eq!(all_agree(Path::new(VECTORS)), 4_000);
    if let Some(more) = std::env::var_os(MORE) {
        assert!(all_agree(Path::new(&more)) > 0, "{MORE} has no vectors");
    }
}
