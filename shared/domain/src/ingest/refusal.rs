//! Why a message is not taken as an event, in words that fit a dead letter.

use crate::fault::{Fault, Faults, refused_by_sqs};

/// Most faults that are told. The others are only counted.
const MAX_TOLD: usize = 5;
/// The longest text, in characters.
const MAX_TEXT: usize = 1_000;
/// What is left of it for the count of the other faults.
const COUNT: usize = 40;

/// A message that is not taken as an event. Its text names the places of its faults, and
/// repeats no value. It has at most 1,000 characters, and SQS takes all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct NotAnEvent {
    faults: Faults,
}

impl NotAnEvent {
    /// What is wrong with it: the first faults, and how many there are.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn text(&self) -> String {
        let mut text = "not an event".to_owned();
        let mut length = text.len();
        let mut told = 0;
        for fault in self.faults.told() {
            let sentence = sentence(fault);
            length += sentence.chars().count() + 2;
            if length > MAX_TEXT - COUNT {
                break;
            }
            text.push_str(if told == 0 { ": " } else { "; " });
            text.push_str(&sentence);
            told += 1;
        }
        match self.faults.count() - told {
            0 => text,
            more => format!("{text}; and {more} more"),
        }
    }
}

impl From<Faults> for NotAnEvent {
    fn from(faults: Faults) -> Self {
        Self { faults: faults.first(MAX_TOLD) }
    }
}

/// A fault with its place. A pointer holds the names of fields, which may be anything.
fn sentence(fault: &Fault) -> String {
    let pointer = fault.pointer.chars().map(|c| {
        let is_plain = !c.is_control() && refused_by_sqs(c.encode_utf8(&mut [0; 4])).is_none();
        if is_plain { c } else { char::REPLACEMENT_CHARACTER }
    });
    let separator = if fault.pointer.is_empty() { "" } else { ": " };
    format!("{}{separator}{}", pointer.collect::<String>(), fault.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::pointer_token;

    #[test]
    fn every_fault_is_told_with_its_place() {
        let mut faults = Faults::from(Fault::at("", "it is bad"));
        faults.add(|| Fault::at("/a", "it is missing"));
        assert_eq!(NotAnEvent::from(faults).to_string(), "not an event: it is bad; /a: it is missing");
    }

    #[test]
    fn the_text_fits_a_dead_letter_whatever_the_fields_are_called() {
        for name in ["~".repeat(500), "é".repeat(500), "\u{1}\u{ffff}\n\u{85}".repeat(100), String::new()] {
            let mut faults = Faults::default();
            for _ in 0..200 {
                faults.add(|| Fault::at(format!("/event/{}", pointer_token(&name)), "m".repeat(150)));
            }
            let text = NotAnEvent::from(faults).to_string();
            assert!(text.chars().count() <= MAX_TEXT && refused_by_sqs(&text).is_none());
            assert!(text.contains("/event/") && text.ends_with(" more"), "{text}");
        }
    }

    #[test]
    fn faults_past_the_fifth_are_counted() {
        let mut faults = Faults::default();
        (0..200).for_each(|i| faults.add(|| Fault::at(format!("/{i}"), "x")));
        assert_eq!(
            NotAnEvent::from(faults).to_string(),
            "not an event: /0: x; /1: x; /2: x; /3: x; /4: x; and 195 more"
        );
    }
}
