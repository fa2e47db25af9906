//! A page of a job as JSON: kind `job` of the queues' schema, version 2.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::{KindV2, Malformed, VERSION_2, read, shape};
use crate::job::{Job, JobPage};
use crate::names::{is_endpoint_id, is_event_id, is_tenant_or_operator};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JobV2 {
    v: u8,
    kind: KindV2,
    page: JobPage,
}

impl JobPage {
    /// Reads a page.
    pub(super) fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let JobV2 { page, .. } = read(body).map_err(|error| shape(&error))?;
        let subject = match &page.job {
            Job::Erase(erase) => ("event_id", erase.event_id.as_deref().is_none_or(is_event_id)),
            Job::Replay(_) | Job::CatchUp(_) | Job::Expire(_) | Job::Notice(_) => {
                ("endpoint", page.job.endpoint().is_none_or(is_endpoint_id))
            }
        };
        for (name, is_right) in
            [("tenant", is_tenant_or_operator(&page.tenant)), ("id", is_event_id(&page.id)), subject]
        {
            if !is_right {
                return Err(Malformed::Field(name));
            }
        }
        Ok(page)
    }

    /// The page as a queue carries it.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&JobV2 { v: VERSION_2, kind: KindV2::Job, page: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::StateReason;
    use crate::history::replay::{ReplayCounts, ReplayJob, ReplayKind, ReplayRequest};
    use crate::job::{EraseJob, Notice, Noticed};
    use crate::message::Envelope;
    use crate::reason::Reason;
    use crate::time::Millis;

    fn page(job: Job) -> JobPage {
        JobPage {
            tenant: "acme".into(),
            id: "rp_1".into(),
            job,
            correlation_id: "c".into(),
            accepted_at: Millis(1),
            deadline: Millis(9),
            hop: 3,
            waited: 1,
            not_before: Millis(2),
        }
    }

    fn jobs() -> [Job; 2] {
        let request = ReplayRequest {
            endpoint: format!("ep_{}", "a".repeat(22)),
            what: ReplayKind::Missing,
            since: Millis(1),
            until: Millis(2),
            event_types: vec!["order.*".into()],
            per_second: 10,
            dry_run: true,
        };
        let counts = ReplayCounts { examined: 4, matched: 3, queued: 2, unsendable: 1 };
        let erase =
            EraseJob { event_id: Some("order-1".into()), before: Millis(5), sweep: 1, position: Some("x".into()) };
        [Job::Replay(ReplayJob { request, after: Some("0#a".into()), counts }), Job::Erase(erase)]
    }

    fn decode(text: String) -> Result<Envelope, Malformed> {
        Envelope::decode(&Bytes::from(text))
    }

    #[test]
    fn a_page_is_the_same_after_a_queue() {
        for job in jobs() {
            let page = page(job);
            assert_eq!(decode(page.encode().unwrap()), Ok(Envelope::Job(Box::new(page))));
        }
    }

    #[test]
    fn jobs_that_begin_by_themselves_are_the_same_after_a_queue() {
        let endpoint = format!("ep_{}", "a".repeat(22));
        let gone =
            Noticed::MustDisable { reason: StateReason::Gone, version: 3, failing_since: Millis(4), failures: 5 };
        let failed = Noticed::DeliveryFailed {
            delivery_id: format!("order-1.{endpoint}"),
            event_id: "order-1".into(),
            event_type: Some("order.paid".into()),
            reason: Reason::Gone,
            error: "the receiver answered 410".into(),
        };
        let notice = |what| JobPage::notice("acme", Notice { endpoint: endpoint.clone(), what }, Millis(61_000));
        let pages = [
            JobPage::wake_up("acme", &endpoint, Millis(60_000)),
            JobPage::expiry(Millis(1), Millis(86_400_001)),
            notice(gone),
            notice(failed),
        ];
        for page in pages {
            assert_eq!(decode(page.encode().unwrap()), Ok(Envelope::Job(Box::new(page.clone()))));
            assert!(crate::identity::is_record_id(&page.record_id()), "{}", page.record_id());
        }
    }

    #[test]
    fn what_is_not_a_page_is_told_by_its_field() {
        let mut good: serde_json::Value = serde_json::from_str(&page(jobs()[0].clone()).encode().unwrap()).unwrap();
        for (field, value) in [("tenant", "a/b"), ("id", "a.b")] {
            let mut changed = good.clone();
            changed["page"][field] = value.into();
            assert_eq!(decode(changed.to_string()), Err(Malformed::Field(field)));
        }
        good["page"]["job"]["replay"]["request"]["endpoint"] = "x".into();
        assert_eq!(decode(good.to_string()), Err(Malformed::Field("endpoint")));
    }
}
