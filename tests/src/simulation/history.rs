//! What history says at the end of a run, against what receivers saw.

use std::collections::{BTreeMap, BTreeSet};

use domain::history::delivery::EndedDelivery;
use domain::history::{Row, names};
use domain::identity::event_record_id;

use super::books::Temper;

/// What history has.
pub(crate) struct Kept {
    deliveries: BTreeMap<String, Vec<EndedDelivery>>,
    events: BTreeSet<String>,
}

impl Kept {
    /// What these rows say.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let (mut deliveries, mut events) = (BTreeMap::<String, Vec<EndedDelivery>>::new(), BTreeSet::new());
        for row in rows {
            if let Some((tenant, event)) = names::split_event(&row.partition) {
                events.insert(event_record_id(tenant, event));
            } else if let Ok(ended) = serde_json::from_str::<EndedDelivery>(&row.body) {
                deliveries.entry(ended.delivery_id()).or_default().push(ended);
            }
        }
        Self { deliveries, events }
    }

    /// The ends of a delivery.
    pub(crate) fn of_delivery(&self, id: &str) -> &[EndedDelivery] {
        self.deliveries.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether it has an event, by the id of its record.
    pub(crate) fn has_event(&self, id: &str) -> bool {
        self.events.contains(id)
    }
}

/// The deliveries that rows of history are about, in the text of a message that carries such
/// rows.
pub(crate) fn deliveries_in(rows: &[Row]) -> BTreeSet<String> {
    let ended = rows.iter().filter_map(|row| serde_json::from_str::<EndedDelivery>(&row.body).ok());
    ended.map(|ended| ended.delivery_id()).collect()
}

/// Whether a receiver of this temper may have given such an answer. None is one that was lost.
pub(crate) fn may_answer(temper: Temper, code: Option<u16>) -> bool {
    match (temper, code) {
        (_, None) => true,
        (Temper::Healthy, Some(code)) => code == 200,
        (Temper::Flaky, Some(code)) => [200, 500].contains(&code),
        (Temper::Dead, Some(code)) => code == 500,
        (Temper::Refusing, Some(code)) => code == 404,
        (Temper::Gone, Some(code)) => code == 410,
        (Temper::Busy, Some(code)) => [200, 429].contains(&code),
    }
}
