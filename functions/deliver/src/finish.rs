//! Carries decisions out: first what is owed and the queues, then Redis and beside it history,
//! then what they did not take.

use adapters::metrics::{self, DeliveryKind};
use adapters::telemetry;

use domain::message::LateOutcomes;

use crate::bookkeeping::Recorded;
use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision};
use crate::{bookkeeping, history, notices, outbox, owed};

/// Carries out what was decided, and names the records that SQS is to keep.
pub(crate) async fn finish(context: &Context, batch: &mut Batch, mut decided: Vec<Decided>) -> Vec<usize> {
    if decided.is_empty() {
        return Vec::new();
    }
    // What the calls came to is logged even if this process ends here.
    telemetry::flush();
    history::write_late(context, &mut decided).await;
    owed::keep(context, &mut decided).await;
    outbox::send(context, &mut decided).await;
    decided.iter().for_each(|next| count(context, batch.kind(next.record), &next.decision));
    let rows = history::rows(context, &decided);
    let (recorded, refused, ()) = tokio::join!(
        bookkeeping::record(context, batch, &decided),
        history::write(context, rows),
        notices::tell_decided(context, &decided, context.clock.now())
    );
    let Recorded { mut late, missed, failing } = recorded;
    let refused = refused.into_iter().chain(history::add(context, missed).await).collect();
    let now = context.clock.now();
    late.extend(LateOutcomes::of_rows(refused, now).into_iter().map(|rows| rows.delayed(now)));
    tokio::join!(outbox::queue_late_outcomes(context, late), notices::tell_failing(context, failing, now));
    decided.iter().filter(|next| next.decision.keeps()).map(|next| next.record).collect()
}

fn count(context: &Context, kind: DeliveryKind, decision: &Decision) {
    if let Some(result) = decision.result() {
        metrics::delivery(result, kind);
    }
    if let Decision::Erased { .. } = decision {
        metrics::dropped_erased(1);
    }
    if let Decision::Delivered { claim, .. } = decision {
        metrics::end_to_end(claim.new_record.accepted_at.until(context.clock.now()));
    }
}
