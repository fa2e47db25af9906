//! The lists of the API hold what the tables hold, each entry once.

use std::collections::BTreeSet;

use domain::dead_letter::DeadLetter;
use domain::history::delivery::EndedDelivery;
use serde_json::Value;

use crate::torture::Field;
use crate::torture::caller::{Caller, paged};

/// Compares the lists with the books. Gives what does not fit.
pub(crate) async fn audit(
    field: &Field,
    direct: &[Value],
    letters: &[DeadLetter],
    ends: &[EndedDelivery],
) -> Vec<String> {
    let caller = Caller::of(field);
    let mut wrong = Vec::new();
    let stored = direct.iter().filter_map(|letter| letter["webhook_id"].as_str().map(str::to_owned));
    let stored = stored.chain(letters.iter().map(|letter| letter.webhook_id.clone())).collect();
    wrong.extend(compared(
        "/dead-letters",
        stored,
        listed(&caller, "/dead-letters", "dead_letters", &["webhook_id"]).await,
    ));
    for endpoint in &field.endpoints {
        let of_it = ends.iter().filter_map(|end| Some((end, end.target.as_ref()?)));
        let of_it = of_it.filter(|(_, target)| target.endpoint == endpoint.id);
        let stored = of_it.map(|(end, target)| {
            format!("{} {} {}", target.event_id, target.life.as_deref().unwrap_or_default(), end.result.as_str())
        });
        let path = format!("{}/deliveries", endpoint.path());
        let shown = listed(&caller, &path, "deliveries", &["event_id", "life", "result"]).await;
        wrong.extend(compared(&path, stored.collect(), shown));
    }
    wrong
}

/// Every event that was accepted is in the list of its tenant.
pub(crate) async fn events(field: &Field) -> Vec<String> {
    let (caller, books) = (Caller::of(field), field.books.open().clone());
    let mut wrong = Vec::new();
    let tenants: BTreeSet<&str> = books.events.values().map(|event| event.tenant).collect();
    for tenant in tenants {
        // One that was erased may have been erased before history had it.
        let of_it = books.events.iter().filter(|(_, event)| event.tenant == tenant && !event.is_erased);
        let told = of_it.map(|(id, _)| id.clone()).collect();
        let path = format!("/tenants/{tenant}/events");
        let mut shown = listed(&caller, &path, "events", &["event_id"]).await;
        shown.retain(|id| !is_notice(id) && !books.events.get(id).is_some_and(|event| event.is_erased));
        // An id that was accepted twice, while Redis was away or had forgotten it, is two events.
        if books.faults.iter().any(|blow| blow.fault.doubles()) {
            shown.sort();
            shown.dedup();
        }
        wrong.extend(compared(&path, told, shown));
    }
    wrong
}

/// Whether an event is a notice of the stack's own. It is named after its endpoint.
pub(crate) fn is_notice(event_id: &str) -> bool {
    event_id.starts_with("ep_")
}

/// The entries of a list, each as these fields of it.
async fn listed(caller: &Caller, path: &str, field: &str, names: &[&str]) -> Vec<String> {
    let entries = paged(caller, path, field).await;
    let word = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| names.iter().map(|name| word(entry, name)).collect::<Vec<_>>().join(" ")).collect()
}

/// Both in any order. What is stored twice, as two ends of one delivery, is listed twice.
fn compared(path: &str, mut stored: Vec<String>, mut shown: Vec<String>) -> Option<String> {
    stored.sort();
    shown.sort();
    if stored == shown {
        return None;
    }
    let [in_store, in_list] = [&stored, &shown].map(BTreeSet::from_iter);
    let differ: Vec<_> = in_store.symmetric_difference(&in_list).take(5).collect();
    Some(format!("{path} lists {}; {} are stored. They differ in {differ:?}", shown.len(), stored.len()))
}
