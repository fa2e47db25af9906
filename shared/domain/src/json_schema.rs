//! JSON Schemas of payloads: compiled, and asked what is wrong with a payload. A schema stands
//! alone, so nothing is fetched. Neither a schema nor a payload can make a check endless:
//! regular expressions are matched in linear time, and the looks at a payload are counted.
//!
//! The drafts are 4, 6, 7, 2019-09 and 2020-12, which is meant if a schema does not say.
//! `format` is checked where its draft says so, which the last two do not.

mod measured;
mod outline;
#[cfg(test)]
mod tests;
mod wording;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

use self::measured::{Measured, MeasuredJson, Work};
use self::outline::Outline;
use crate::fault::{Fault, Faults, MAX_FAULTS};

/// The largest schema, in bytes.
pub const MAX_SCHEMA: usize = 64 * 1024;
/// The looks at a payload that one check may take: some 20 ms.
const MAX_LOOKS: usize = 2_000_000;
/// What the errors of one check may take, in bytes, and what one of a deep payload takes.
const ERRORS_BYTES: usize = 16 * 1024 * 1024;
const ERROR_BYTES: usize = 1_600;
/// How many times its text a schema takes when it is compiled, and what a regular expression
/// takes beside that. Both are rough.
const COMPILED: usize = 64;
const PATTERN_BYTES: usize = 64 * 1024;
/// The largest regular expression, and what may be remembered while it is matched, in bytes.
const MAX_PATTERN: usize = 1024 * 1024;
const MAX_PATTERN_MEMORY: usize = 256 * 1024;

const UNKNOWN_DIALECT: &str = "must name draft 4, 6, 7, 2019-09 or 2020-12 of JSON Schema";
const BAD_PATTERN: &str = "is not a regular expression that is matched in linear time (without looking around or back), \
                           or is too large";
const UNREADABLE: &str = "cannot be checked: it is nested too deeply, or has a number that is too large";
const TOO_MUCH_WORK: &str = "takes too much work to be checked against its schema";
const TOO_MANY_FAULTS: &str = "is not as its schema says, in so many ways that they are not told";

/// A schema that was compiled.
pub struct JsonSchema {
    validator: Validator<MeasuredJson>,
    errors: usize,
    bytes: usize,
}

impl fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSchema").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl JsonSchema {
    /// Compiles a schema. Faults point below `base`.
    ///
    /// # Errors
    /// Every fault that can be told at once.
    pub fn read(base: &str, raw: &RawValue) -> Result<Self, Faults> {
        let text = raw.get();
        if text.len() > MAX_SCHEMA {
            return Err(Fault::at(base, format!("has at most {MAX_SCHEMA} bytes")).into());
        }
        let unreadable = |_| Fault::at(base, "is nested too deeply, or has a number that is too large");
        let schema: Value = serde_json::from_str(text).map_err(unreadable)?;
        let draft = Draft::default().detect(&schema);
        if draft == Draft::Unknown {
            return Err(Fault::at(format!("{base}/$schema"), UNKNOWN_DIALECT).into());
        }
        let mut outline = Outline::of(base, &schema, if draft == Draft::Draft4 { "id" } else { "$id" });
        let refused = outline.patterns().iter().filter(|(_, pattern)| !is_pattern(pattern));
        let refused: Vec<String> = refused.map(|(place, _)| place.clone()).collect();
        refused.iter().for_each(|place| outline.fault(place, BAD_PATTERN));
        let (patterns, longest_not) = (outline.patterns().len(), outline.longest_not());
        let mut faults = outline.into_faults();
        forbidden(&mut faults, base, &schema);
        if !faults.is_empty() {
            return Err(faults);
        }
        let validator = match within(|| options().build(&schema)) {
            Some(Ok(validator)) => validator,
            Some(Err(error)) => {
                wording::tell(&mut faults, base, &error);
                return Err(faults);
            }
            None => return Err(Fault::at(base, "cannot be compiled").into()),
        };
        Ok(Self {
            validator,
            errors: ERRORS_BYTES / (ERROR_BYTES + COMPILED * longest_not),
            bytes: text.len() * COMPILED + patterns * PATTERN_BYTES,
        })
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is wrong with a payload. Faults point below `base`, and none repeats a value.
    pub fn check(&self, base: &str, payload: &RawValue) -> Faults {
        let Ok(payload) = serde_json::from_str::<Value>(payload.get()) else {
            return Fault::at(base, UNREADABLE).into();
        };
        let looks = Work::new(MAX_LOOKS, usize::MAX);
        match within(|| self.validator.is_valid(Measured::new(&payload, &looks))) {
            Some(true) => return Faults::default(),
            Some(false) => {}
            None => return Fault::at(base, TOO_MUCH_WORK).into(),
        }
        // To find every error takes more than to find that there is one, so it may fail.
        self.faults(base, &payload).unwrap_or_else(|| Fault::at(base, TOO_MANY_FAULTS).into())
    }

    /// The same for a payload that is JSON text.
    pub fn check_text(&self, base: &str, payload: &str) -> Faults {
        match serde_json::from_str(payload) {
            Ok(payload) => self.check(base, payload),
            Err(_) => Fault::at(base, UNREADABLE).into(),
        }
    }

    /// All faults, or else the first one.
    fn faults(&self, base: &str, payload: &Value) -> Option<Faults> {
        let mut faults = Faults::default();
        let (all, first) = (Work::new(MAX_LOOKS, self.errors), Work::new(MAX_LOOKS, self.errors));
        if let Some(errors) = within(|| self.validator.iter_errors(Measured::new(payload, &all))) {
            errors.for_each(|error| wording::tell(&mut faults, base, &error));
        } else {
            let error = within(|| self.validator.validate(Measured::new(payload, &first)).err())??;
            wording::tell(&mut faults, base, &error);
        }
        (!faults.is_empty()).then_some(faults)
    }
}

/// What the crate says, unless it takes too much work. A panic of it is treated alike: what it
/// was asked cannot be told.
fn within<T>(ask: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).ok()
}

fn options() -> ValidationOptions<'static, std::sync::Arc<dyn jsonschema::Retrieve>, MeasuredJson> {
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN_MEMORY);
    jsonschema::options_for::<MeasuredJson>()
        .offline()
        .with_pattern_options(patterns)
        // To try whether a payload has a regular expression may take long.
        .with_format("regex", |_| true)
}

/// Whether the crate takes it for a regular expression.
fn is_pattern(pattern: &str) -> bool {
    options().build(&serde_json::json!({ "pattern": pattern })).is_ok()
}

/// Adds what the schema's dialect forbids, where nothing else is wrong.
fn forbidden(faults: &mut Faults, base: &str, schema: &Value) {
    if faults.count() > MAX_FAULTS || jsonschema::meta::is_valid(schema) {
        return;
    }
    let Ok(dialect) = jsonschema::meta::validator_for(schema) else { return };
    let mut found = Faults::default();
    dialect.iter_errors(schema).for_each(|error| wording::tell(&mut found, base, &error));
    // A dialect of many parts tells some faults more than once.
    let mut told: BTreeSet<String> = faults.told().iter().map(|fault| fault.pointer.clone()).collect();
    for fault in found.told().iter().filter(|fault| told.insert(fault.pointer.clone())) {
        faults.add(|| fault.clone());
    }
}
