//! Names that callers and the registry give: tenants, endpoints, events and their types.

/// The characters of an endpoint's id after `ep_`.
pub const ENDPOINT_ID_RANDOM: usize = 22;
/// The longest name of an event type.
pub const MAX_EVENT_TYPE: usize = 128;
/// The stack's own tenant.
pub const OPERATOR: &str = "_operator";

/// Whether a caller may name a tenant so: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`.
pub fn is_tenant(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(is_word)
}

/// Whether it names a tenant or the stack's own.
pub fn is_tenant_or_operator(text: &str) -> bool {
    text == OPERATOR || is_tenant(text)
}

/// Whether it is an endpoint's id: `ep_` and 22 letters and digits, made by the registry.
pub fn is_endpoint_id(text: &str) -> bool {
    let random = text.strip_prefix("ep_").unwrap_or_default();
    random.len() == ENDPOINT_ID_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether it is a caller's own id of an endpoint: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(is_word)
}

/// Whether it is an event's id: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub fn is_event_id(text: &str) -> bool {
    is_uid(text)
}

/// Whether it is the name of an event type: words of `A-Z a-z 0-9 _ -` with dots between
/// them, at most 128 characters.
pub fn is_event_type(text: &str) -> bool {
    text.len() <= MAX_EVENT_TYPE && text.split('.').all(|word| !word.is_empty() && word.bytes().all(is_word))
}

/// Whether it is the name of an event type that Steadhook itself uses.
pub fn is_reserved_event_type(text: &str) -> bool {
    text.split('.').next() == Some("steadhook")
}

/// The type of the event that tells of an endpoint that was disabled.
pub const ENDPOINT_DISABLED: &str = "steadhook.endpoint.disabled";
/// The type of the event that tells of a delivery that was given up.
pub const DELIVERY_FAILED: &str = "steadhook.delivery.failed";

/// Whether an event type is the one that `pattern` names, or one of those below `name.*`.
pub fn selects_event_type(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(parent) => event_type.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.')),
        None => event_type == pattern,
    }
}

/// Whether it selects event types: a name, or a name and `.*`.
pub fn is_event_type_pattern(text: &str) -> bool {
    is_event_type(text.strip_suffix(".*").unwrap_or(text))
}

/// Whether a type is among these names and `name.*`. No name stands for all but Steadhook's
/// own.
pub(crate) fn is_among(event_type: &str, wanted: &[String]) -> bool {
    if wanted.is_empty() {
        return !is_reserved_event_type(event_type);
    }
    wanted.iter().any(|wanted| selects_event_type(wanted, event_type))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_grammars() {
        for good in ["a", "acme-1", "A_b", &"x".repeat(64)] {
            assert!(is_tenant(good), "{good}");
        }
        for bad in ["", "-a", "_operator", "a.b", "a/b", "é", &"x".repeat(65)] {
            assert!(!is_tenant(bad), "{bad}");
        }
        assert!(is_tenant_or_operator("_operator"));
        assert!(is_endpoint_id(&format!("ep_{}", "aB3".repeat(8).get(..22).unwrap())));
        for bad in ["", "ep_", "ep_abc", &format!("ep_{}", "-".repeat(22)), &"e".repeat(25)] {
            assert!(!is_endpoint_id(bad), "{bad}");
        }
        for good in ["a", "invoice.paid", "a-b.c_d.E", &"x".repeat(128)] {
            assert!(is_event_type(good) && is_event_type_pattern(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "*", "a.*", &"x".repeat(129)] {
            assert!(!is_event_type(bad), "{bad}");
        }
        assert!(is_reserved_event_type("steadhook.a") && is_reserved_event_type("steadhook"));
        assert!(!is_reserved_event_type("steadhooks.a"));
        assert!(is_event_type_pattern("invoice.*"));
        for bad in ["*", ".*", "a*", "a.*.b"] {
            assert!(!is_event_type_pattern(bad), "{bad}");
        }
    }
}
