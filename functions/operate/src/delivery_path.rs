//! The path of one event's delivery to one endpoint.

use adapters::http::answer::Problem;
use domain::fault::{Fault, Faults};
use domain::names::{is_endpoint_id, is_event_id, is_tenant_or_operator};
use percent_encoding::percent_decode_str;

/// What the path names.
pub(crate) struct DeliveryPath<'a> {
    tenant: &'a str,
    event: &'a str,
    endpoint: &'a str,
}

impl<'a> DeliveryPath<'a> {
    /// Reads the path, if it has this form.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/tenants/")?.split('/').collect();
        match parts[..] {
            [tenant, "events", event, "deliveries", endpoint] => Some(Self { tenant, event, endpoint }),
            _ => None,
        }
    }

    /// The names, each held to its grammar.
    pub(crate) fn names(&self) -> Result<[String; 3], Problem> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let [tenant, event, endpoint] = [self.tenant, self.event, self.endpoint].map(decoded);
        let mut faults = Faults::default();
        let mut check = |is_right: bool, pointer: &str, message: &str| {
            if !is_right {
                faults.add(|| Fault::at(pointer, message));
            }
        };
        let words = "must be 1 to 64 letters, digits, '_' or '-'";
        check(
            is_tenant_or_operator(&tenant),
            "/tenant",
            "must be 1 to 64 letters, digits, '_' or '-', first a letter or digit",
        );
        check(is_event_id(&event), "/event", words);
        check(is_endpoint_id(&endpoint), "/endpoint", "must be ep_ and 22 letters and digits");
        if faults.is_empty() { Ok([tenant, event, endpoint]) } else { Err(Problem::invalid(faults)) }
    }
}
