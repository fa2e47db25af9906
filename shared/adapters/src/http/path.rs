//! The names in a path, decoded, each held to its grammar.

use domain::fault::{Fault, Faults};
use domain::names::{is_endpoint_id, is_event_id, is_tenant_or_operator};
use percent_encoding::percent_decode_str;

use super::answer::Problem;

/// Reads the names in a path. All faults are told at once.
#[derive(Debug, Default)]
pub struct PathNames {
    faults: Faults,
}

impl PathNames {
    /// A tenant.
    pub fn tenant(&mut self, segment: &str) -> String {
        const WANTS: &str =
            "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen, and begin with a letter or a digit";
        self.name("/tenant", segment, is_tenant_or_operator, WANTS)
    }

    /// The id of an event.
    pub fn event(&mut self, segment: &str) -> String {
        self.name("/event", segment, is_event_id, "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen")
    }

    /// The id of an endpoint.
    pub fn endpoint(&mut self, segment: &str) -> String {
        self.name("/endpoint", segment, is_endpoint_id, "must be `ep_` and 22 letters and digits")
    }

    /// The id of a replay.
    pub fn replay(&mut self, segment: &str) -> String {
        self.name("/replay", segment, is_event_id, "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen")
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every fault of the names.
    pub fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }

    fn name(&mut self, pointer: &str, segment: &str, is_right: fn(&str) -> bool, wants: &str) -> String {
        let name = percent_decode_str(segment).decode_utf8_lossy().into_owned();
        if !is_right(&name) {
            self.faults.add(|| Fault::at(pointer, wants));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_all_faults_are_told() {
        let mut names = PathNames::default();
        assert_eq!((names.tenant("%61cme"), names.event("order-1")), ("acme".to_owned(), "order-1".to_owned()));
        assert!(names.finish().is_ok());
        let mut names = PathNames::default();
        drop((names.tenant("a%2Fb"), names.event("a.b"), names.endpoint("ep_1"), names.tenant("%FF")));
        assert_eq!(names.faults.count(), 4);
        assert!(names.finish().is_err());
    }
}
