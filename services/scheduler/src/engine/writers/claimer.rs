//! Claims for all sessions of this replica: one statement per lane at a time, whatever the number of workers.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::undelivered::Undelivered;
use crate::{
    domain::ids::LaneId,
    engine::{
        dispatch::local_sessions::{LocalSessions, Reservation},
        peers::announcer::Announcer,
    },
    store::{Database, Mark},
};

/// Most tasks of one claim.
const MOST: usize = 1_000;

/// How long to leave a lane alone after a claim or a look failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// Does what the planner says.
pub(in crate::engine) struct Claimer {
    pub(in crate::engine) db: Database,
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) announcer: Announcer,
    pub(in crate::engine) undelivered: Undelivered,
}

impl Claimer {
    /// Claims until `stop`; a claim under way is finished and dealt.
    pub(in crate::engine) async fn run(self, stop: CancellationToken) {
        let mut under_way: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.local_sessions.woken() => {}
                Some(()) = under_way.next() => continue,
            }
            let looks = self.local_sessions.begin_looks();
            if !looks.is_empty() {
                under_way.push(Box::pin(self.look(looks)));
            }
            for reservation in self.local_sessions.plan(MOST, Timestamp::now()) {
                under_way.push(Box::pin(self.claim(reservation)));
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// Looks into many lanes at once.
    async fn look(&self, looks: Vec<(LaneId, Mark)>) {
        match self.db.first_places(&looks).await {
            Ok(places) => {
                let found = looks.iter().map(|(lane, _)| (*lane, places.get(lane).copied()));
                self.local_sessions.looked(found);
            }
            Err(error) => {
                tracing::warn!(%error, lanes = looks.len(), "a look into lanes failed");
                tokio::time::sleep(AFTER_FAILURE).await;
                self.local_sessions
                    .looks_failed(looks.into_iter().map(|(lane, _)| lane));
            }
        }
    }

    async fn claim(&self, reservation: Reservation) {
        let claim = &reservation.claim;
        match self.db.claim(claim).await {
            Ok(claimed) => {
                let tasks = claimed.tasks.iter().map(|task| task.lease.key.task);
                self.announcer.tasks_changed(tasks);
                let used_all = claimed.tasks.len() == claim.slots.len();
                let undelivered = self.local_sessions.deal(&reservation, claimed);
                // Others passed over what it locked but did not take; if nobody here takes it, they must look again.
                if used_all && !self.local_sessions.has_room(claim.lane) {
                    self.announcer.tasks_wait_for_peers(claim.lane, claim.mark);
                }
                self.undelivered.finish(undelivered).await;
            }
            Err(error) => {
                tracing::warn!(%error, lane = claim.lane.0, "a claim failed");
                tokio::time::sleep(AFTER_FAILURE).await;
                self.local_sessions.claim_failed(&reservation);
            }
        }
    }
}
