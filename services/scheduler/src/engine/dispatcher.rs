//! Claims for all sessions of this replica: one statement per lane at a time, whatever the number of workers.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{Engine, fleet::Reservation};
use crate::store::doorbell::Ring;

/// Most tasks of one claim.
const MOST: usize = 1_000;

/// How long to leave a lane alone after a claim failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// Claims until `stop`; a claim under way is finished and dealt.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let mut claims = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = engine.parts.fleet.woken() => {}
            Some(()) = claims.next() => continue,
        }
        for reservation in engine.parts.fleet.reserve(MOST) {
            claims.push(claim(engine.clone(), reservation));
        }
    }
    while claims.next().await.is_some() {}
}

async fn claim(engine: Engine, reservation: Reservation) {
    let parts = &engine.parts;
    let now_us = tasklease_proto::convert::micros_from_system(SystemTime::now());
    match parts.db.claim(&reservation.claim, now_us).await {
        Ok(claimed) => {
            parts
                .hub
                .wake(claimed.tasks.iter().map(|task| task.lease.key.task));
            let watch = !claimed.tasks.is_empty();
            let used_all = claimed.tasks.len() == reservation.claim.slots.len();
            let homeless = parts.fleet.deal(&reservation, claimed);
            parts.doorman.ring(Ring {
                watch,
                // Others passed over what it locked but did not take, and nobody here takes it.
                ready: used_all && !parts.fleet.has_room(reservation.claim.lane),
                ..Ring::default()
            });
            parts.handover.finish(homeless).await;
        }
        Err(error) => {
            tracing::warn!(%error, lane = reservation.claim.lane.0, "a claim failed");
            tokio::time::sleep(AFTER_FAILURE).await;
            parts.fleet.claim_failed(&reservation);
        }
    }
}
