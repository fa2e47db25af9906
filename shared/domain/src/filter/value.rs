//! The values of an event that a filter can ask about, and the tests it has for them.

use std::borrow::Cow;

use super::caseless::{after_prefix, before_suffix};
use super::number::comparable;
use super::steps::{Steps, TooMuchWork};
use super::wildcard::Wildcard;

/// No text of a pattern is longer, in bytes.
const LONGEST_TEXT: usize = 4096;

/// A value that is neither object nor array.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A number: as it was written, and as a double if it is one.
    Number {
        /// As it was written.
        text: &'a str,
        /// As a double, if no digit is lost.
        double: Option<f64>,
    },
    /// `true`.
    True,
    /// `false`.
    False,
    /// `null`.
    Null,
}

impl<'a> Value<'a> {
    /// A value that is written without quotes.
    pub(super) fn word(text: &'a str) -> Self {
        match text {
            "true" => Self::True,
            "false" => Self::False,
            "null" => Self::Null,
            text => Self::Number { text, double: comparable(text) },
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number { .. } | Self::True | Self::False | Self::Null => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Self::Number { double, .. } => *double,
            Self::Text(_) | Self::True | Self::False | Self::Null => None,
        }
    }
}

/// Texts that are tested for one by one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TextTest {
    /// It begins so.
    Prefix(Box<str>),
    /// It ends so.
    Suffix(Box<str>),
    /// It is this, whatever the case.
    Caseless(Box<str>),
    /// It begins so, whatever the case.
    CaselessPrefix(Box<str>),
    /// It ends so, whatever the case.
    CaselessSuffix(Box<str>),
    /// The pattern stands for it.
    Wildcard(Wildcard),
}

impl TextTest {
    fn accepts(&self, text: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        Ok(match self {
            Self::Prefix(prefix) => {
                steps.text(prefix.len().min(text.len()))?;
                text.starts_with(&**prefix)
            }
            Self::Suffix(suffix) => {
                steps.text(suffix.len().min(text.len()))?;
                text.ends_with(&**suffix)
            }
            Self::Caseless(wanted) => {
                steps.text(8 * wanted.len().min(text.len()))?;
                after_prefix(text, wanted) == Some("")
            }
            Self::CaselessPrefix(prefix) => {
                steps.text(8 * prefix.len().min(text.len()))?;
                after_prefix(text, prefix).is_some()
            }
            Self::CaselessSuffix(suffix) => {
                steps.text(8 * suffix.len().min(text.len()))?;
                before_suffix(text, suffix).is_some()
            }
            Self::Wildcard(wildcard) => {
                steps.one()?;
                if !wildcard.begins(text) {
                    return Ok(false);
                }
                steps.text(wildcard.len() + text.len())?;
                wildcard.fits(text)
            }
        })
    }
}

/// One end of a range, and whether it is in it.
pub(super) type Bound = std::ops::Bound<f64>;

/// A number of a pattern: as it was written, and as a double if it is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    /// As it was written.
    pub(super) text: Box<str>,
    /// As a double, if no digit is lost.
    pub(super) double: Option<f64>,
}

/// What the values of a field are tested for. A value is accepted if one test accepts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// No value at all is accepted.
    pub(super) absent: bool,
    /// Any value is.
    pub(super) present: bool,
    /// `true`, `false` and `null` are.
    pub(super) words: (bool, bool, bool),
    /// These texts are, sorted.
    pub(super) texts: Vec<Box<str>>,
    /// Texts that a test accepts are.
    pub(super) tests: Vec<TextTest>,
    /// These numbers are.
    pub(super) numbers: Vec<Number>,
    /// Numbers in these ranges are.
    pub(super) ranges: Vec<(Bound, Bound)>,
    /// Values are that none of these tests accepts.
    pub(super) unwanted: Vec<Unwanted>,
}

/// What an `anything-but` does not accept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unwanted {
    /// These texts, sorted.
    Texts(Vec<Box<str>>),
    /// These numbers.
    Numbers(Vec<f64>),
    /// Texts that a test accepts.
    Tests(Vec<TextTest>),
}

impl Wanted {
    /// Whether a value could be accepted.
    pub(super) fn takes_values(&self) -> bool {
        *self != Self { absent: self.absent, ..Self::default() }
    }

    /// Whether it accepts a value.
    pub(super) fn accepts(&self, value: &Value<'_>, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        steps.one()?;
        let is_wanted = self.present
            || match value {
                Value::True => self.words.0,
                Value::False => self.words.1,
                Value::Null => self.words.2,
                Value::Text(text) => has(&self.texts, text, steps)? || any(&self.tests, text, steps)?,
                Value::Number { text, double } => self.accepts_number(text, *double, steps)?,
            };
        if is_wanted {
            return Ok(true);
        }
        for unwanted in &self.unwanted {
            steps.one()?;
            if !unwanted.accepts(value, steps)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn accepts_number(&self, text: &str, double: Option<f64>, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        for number in &self.numbers {
            steps.text(number.text.len().min(text.len()))?;
            if *number.text == *text || double.is_some() && number.double == double {
                return Ok(true);
            }
        }
        let Some(double) = double else { return Ok(false) };
        for range in &self.ranges {
            steps.one()?;
            if std::ops::RangeBounds::contains(range, &double) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Unwanted {
    fn accepts(&self, value: &Value<'_>, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        match self {
            Self::Texts(texts) => value.text().map_or(Ok(false), |text| has(texts, text, steps)),
            Self::Tests(tests) => value.text().map_or(Ok(false), |text| any(tests, text, steps)),
            Self::Numbers(numbers) => {
                let Some(double) = value.double() else { return Ok(false) };
                for number in numbers {
                    steps.one()?;
                    if *number == double {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

fn has(texts: &[Box<str>], text: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    steps.search(texts.len())?;
    steps.text(text.len().min(LONGEST_TEXT))?;
    Ok(texts.binary_search_by(|wanted| (**wanted).cmp(text)).is_ok())
}

fn any(tests: &[TextTest], text: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    for test in tests {
        if test.accepts(text, steps)? {
            return Ok(true);
        }
    }
    Ok(false)
}
