//! Claims for all sessions of this replica: one statement per lane at a time, whatever the number of workers.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{Engine, fleet::Reservation};
use crate::{
    domain::{
        ids::GrantId,
        verdict::{self, Verdict},
    },
    store::{ClaimedTask, GrantKey},
};

/// Most tasks of one claim.
const MOST: usize = 1_000;

/// How long to leave a lane alone after a claim failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// Claims until `stop`; a claim under way is finished and dealt.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let mut claims = FuturesUnordered::new();
    let mut grants = Grants::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = engine.parts.fleet.woken() => {}
            Some(()) = claims.next() => continue,
        }
        for reservation in engine.parts.fleet.reserve(MOST) {
            claims.push(claim(engine.clone(), reservation, grants.next()));
        }
    }
    while claims.next().await.is_some() {}
}

async fn claim(engine: Engine, reservation: Reservation, grant: GrantId) {
    let parts = &engine.parts;
    let now_us = tasklease_proto::convert::micros_from_system(SystemTime::now());
    match parts
        .db
        .claim(
            reservation.lane,
            reservation.mark,
            &reservation.slots,
            grant,
            now_us,
        )
        .await
    {
        Ok((tasks, last)) => {
            parts.hub.wake(tasks.iter().map(|task| task.lease.key.task));
            if !tasks.is_empty() {
                parts.doorman.ring(crate::store::doorbell::Ring {
                    watch: true,
                    ..Default::default()
                });
            }
            let homeless = parts.fleet.deal(&reservation, tasks, last);
            if !homeless.is_empty() {
                engine.send_home(homeless).await;
            }
            // A cancel may have come between the claim and the moment the session knew of the lease.
            parts.due.look_again_at_cancels();
        }
        Err(error) => {
            tracing::warn!(%error, lane = reservation.lane.0, "a claim failed");
            tokio::time::sleep(AFTER_FAILURE).await;
            parts.fleet.claim_failed(&reservation);
            // The claim may have been committed although its answer was lost: nobody was told of those leases.
            for session in reservation.sessions() {
                engine.check_leases_later(session);
            }
        }
    }
}

impl Engine {
    /// Hands tasks back whose session left while they were claimed.
    async fn send_home(&self, tasks: Vec<ClaimedTask>) {
        let mut emptied: Vec<GrantKey> = Vec::new();
        let mut verdicts: Vec<(Verdict, crate::domain::ids::LaneId)> = Vec::new();
        for task in &tasks {
            let key = GrantKey {
                session: task.session,
                grant: task.lease.grant,
            };
            if !emptied.contains(&key) {
                emptied.push(key);
            }
            verdicts.push((verdict::not_accepted(&task.lease, ""), task.lease.lane));
        }
        if self.parts.settler.settle(verdicts, emptied).await.is_err() {
            tracing::warn!(
                tasks = tasks.len(),
                "claimed tasks wait for their session to expire"
            );
        }
    }
}

/// Ids of grants: microseconds since 1970, made strictly increasing, so that a session that comes from another
/// replica does not meet the ids that were used there.
#[derive(Default)]
struct Grants(i64);

impl Grants {
    fn next(&mut self) -> GrantId {
        let now = tasklease_proto::convert::micros_from_system(SystemTime::now());
        self.0 = now.max(self.0 + 1);
        GrantId(self.0)
    }
}
