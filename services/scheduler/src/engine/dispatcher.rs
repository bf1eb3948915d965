//! Claims for all sessions of this replica: one statement per lane at a time, whatever the number of workers.

use std::time::Duration;

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Engine, local_sessions::Reservation};
use crate::{
    domain::ids::LaneId,
    store::{Mark, notify::Hints},
};

/// Most tasks of one claim.
const MOST: usize = 1_000;

/// How long to leave a lane alone after a claim or a look failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// Does what the dispatch plans until `stop`; a claim under way is finished and dealt.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let local_sessions = &engine.parts.local_sessions;
    let mut under_way: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = local_sessions.woken() => {}
            Some(()) = under_way.next() => continue,
        }
        let looks = local_sessions.begin_looks();
        if !looks.is_empty() {
            under_way.push(Box::pin(look(&engine, looks)));
        }
        for reservation in local_sessions.plan(MOST, Timestamp::now()) {
            under_way.push(Box::pin(claim(&engine, reservation)));
        }
    }
    while under_way.next().await.is_some() {}
}

/// One look into many lanes.
async fn look(engine: &Engine, looks: Vec<(LaneId, Mark)>) {
    let parts = &engine.parts;
    match parts.db.first_places(&looks).await {
        Ok(places) => {
            let found = looks.iter().map(|(lane, _)| (*lane, places.get(lane).copied()));
            parts.local_sessions.looked(found);
        }
        Err(error) => {
            tracing::warn!(%error, lanes = looks.len(), "a look into lanes failed");
            tokio::time::sleep(AFTER_FAILURE).await;
            parts
                .local_sessions
                .looks_failed(looks.into_iter().map(|(lane, _)| lane));
        }
    }
}

async fn claim(engine: &Engine, reservation: Reservation) {
    let parts = &engine.parts;
    match parts.db.claim(&reservation.claim).await {
        Ok(claimed) => {
            let tasks: Vec<_> = claimed.tasks.iter().map(|task| task.lease.key.task).collect();
            parts.hub.wake(tasks.iter().copied());
            let used_all = claimed.tasks.len() == reservation.claim.slots.len();
            let undelivered = parts.local_sessions.deal(&reservation, claimed);
            let lane = reservation.claim.lane;
            // Others passed over what it locked but did not take; if nobody here takes it, they must look again.
            let passed_over = used_all && !parts.local_sessions.has_room(lane);
            let mut hints = Hints::tasks(tasks);
            if passed_over {
                hints.add(Hints::lane(lane, reservation.claim.mark));
            }
            parts.notifier.notify(hints);
            parts.undelivered.finish(undelivered).await;
        }
        Err(error) => {
            tracing::warn!(%error, lane = reservation.claim.lane.0, "a claim failed");
            tokio::time::sleep(AFTER_FAILURE).await;
            parts.local_sessions.claim_failed(&reservation);
        }
    }
}
