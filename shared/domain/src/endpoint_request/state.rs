//! The wish for another state of an endpoint: to pause it, or to enable it again.

use serde_json::value::RawValue;

use crate::endpoint::{Card, EndpointState, StateReason};
use crate::object::{ObjectReader, parsed};
use crate::time::Millis;

/// A state that somebody asks for. Only the stack itself disables an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateRequest {
    /// Its deliveries are kept as owed.
    Pause,
    /// Its deliveries are attempted again.
    Enable {
        /// Whether what is owed is attempted as well. Without it, that is given up.
        with_catch_up: bool,
    },
}

impl StateRequest {
    /// The fields that it is read from.
    pub(super) const FIELDS: &[&str] = &["state", "catch_up"];

    /// Reads it from a change, if the change has it.
    pub(super) fn read(reader: &mut ObjectReader<'_>) -> Option<Self> {
        let names_state = reader.raw("state").is_some();
        let wanted = reader.optional("state", wanted, "must be `enabled` or `paused`");
        let catch_up = reader.optional("catch_up", parsed::<bool>, "must be true or false");
        let enables = matches!(wanted, Some(Self::Enable { .. }));
        if catch_up.is_some() && !enables && (wanted.is_some() || !names_state) {
            reader.fault("catch_up", "needs `state` to be `enabled`");
        }
        Some(match wanted? {
            Self::Pause => Self::Pause,
            Self::Enable { with_catch_up } => Self::Enable { with_catch_up: catch_up.unwrap_or(with_catch_up) },
        })
    }

    /// The state that the endpoint has then.
    pub fn state(self) -> EndpointState {
        match self {
            Self::Pause => EndpointState::Paused,
            Self::Enable { .. } => EndpointState::Enabled,
        }
    }

    /// Writes it into a card at `now`. A state that the endpoint has already stays as it is,
    /// with its reason and its time.
    pub fn apply(self, card: &mut Card, now: Millis) {
        let reason = match self {
            Self::Pause => Some(StateReason::Asked),
            Self::Enable { with_catch_up } => {
                if !with_catch_up {
                    card.owed_dropped_before = Some(now);
                }
                None
            }
        };
        if card.state != self.state() {
            (card.state, card.state_reason, card.state_since) = (self.state(), reason, now);
            card.disabled_by = None;
        }
    }
}

/// The state that a text names, if it may be asked for.
fn wanted(raw: &RawValue) -> Option<StateRequest> {
    match parsed::<EndpointState>(raw)? {
        EndpointState::Enabled => Some(StateRequest::Enable { with_catch_up: true }),
        EndpointState::Paused => Some(StateRequest::Pause),
        EndpointState::Disabled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSED: &str = "\"paused\"";
    const ENABLED: &str = "\"enabled\"";

    fn read(text: &str) -> Result<Option<StateRequest>, Vec<String>> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut reader = ObjectReader::open("", raw, StateRequest::FIELDS, "it").unwrap();
        let request = StateRequest::read(&mut reader);
        let faults = reader.finish();
        let pointers: Vec<String> = faults.told().iter().map(|fault| fault.pointer.clone()).collect();
        if pointers.is_empty() { Ok(request) } else { Err(pointers) }
    }

    #[test]
    fn an_endpoint_is_paused_or_enabled_and_a_catch_up_is_refused_only_when_it_is_enabled() {
        let enable = |with_catch_up| Ok(Some(StateRequest::Enable { with_catch_up }));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(&format!(r#"{{"state":{PAUSED}}}"#)), Ok(Some(StateRequest::Pause)));
        assert_eq!(read(&format!(r#"{{"state":{ENABLED}}}"#)), enable(true));
        assert_eq!(read(&format!(r#"{{"state":{ENABLED},"catch_up":true}}"#)), enable(true));
        assert_eq!(read(&format!(r#"{{"state":{ENABLED},"catch_up":false}}"#)), enable(false));
        let fault = |text: &str| read(text).unwrap_err();
        for state in ["null", "1", "\"disabled\"", "\"Paused\"", "\"\""] {
            assert_eq!(fault(&format!(r#"{{"state":{state}}}"#)), ["/state"], "{state}");
            assert_eq!(fault(&format!(r#"{{"state":{state},"catch_up":false}}"#)), ["/state"], "{state}");
        }
        assert_eq!(fault(r#"{"catch_up":false}"#), ["/catch_up"]);
        assert_eq!(fault(&format!(r#"{{"state":{PAUSED},"catch_up":false}}"#)), ["/catch_up"]);
        for catch_up in ["null", "0", "\"false\""] {
            assert_eq!(fault(&format!(r#"{{"state":{ENABLED},"catch_up":{catch_up}}}"#)), ["/catch_up"], "{catch_up}");
        }
    }

    fn card(state: EndpointState) -> Card {
        let text = r#"{"tenant":"acme","id":"ep_1","url":"https://a.example/","secrets":[],"state":"enabled","state_since":1,
            "created_at":1,"updated_at":1,"version":1}"#;
        let held = state != EndpointState::Enabled;
        let card: Card = serde_json::from_str(text).unwrap();
        Card { state, state_reason: held.then_some(StateReason::Gone), disabled_by: held.then(|| "n".into()), ..card }
    }

    #[test]
    fn a_new_state_has_its_reason_and_its_time_and_the_same_state_keeps_them() {
        let now = Millis(7);
        let (pause, enable) = (StateRequest::Pause, StateRequest::Enable { with_catch_up: true });
        for (before, request, reason) in [
            (EndpointState::Enabled, pause, Some(StateReason::Asked)),
            (EndpointState::Disabled, pause, Some(StateReason::Asked)),
            (EndpointState::Paused, enable, None),
            (EndpointState::Disabled, enable, None),
        ] {
            let mut changed = card(before);
            request.apply(&mut changed, now);
            let wanted = Card {
                state: request.state(),
                state_reason: reason,
                state_since: now,
                disabled_by: None,
                ..card(before)
            };
            assert_eq!(changed, wanted, "{before:?} {request:?}");
        }
        for (before, request) in [(EndpointState::Enabled, enable), (EndpointState::Paused, pause)] {
            let mut same = card(before);
            request.apply(&mut same, now);
            assert_eq!(same, card(before));
        }
    }

    #[test]
    fn a_refused_catch_up_drops_what_is_owed_until_now_whatever_the_state_was() {
        for before in [EndpointState::Enabled, EndpointState::Paused, EndpointState::Disabled] {
            let mut changed = card(before);
            StateRequest::Enable { with_catch_up: false }.apply(&mut changed, Millis(7));
            assert_eq!((changed.state, changed.owed_dropped_before), (EndpointState::Enabled, Some(Millis(7))));
        }
    }
}
