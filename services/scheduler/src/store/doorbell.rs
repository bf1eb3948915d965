//! The doorbell between replicas: a hint that something changed, never data.
//!
//! It is rung in a transaction of its own, because the lock that a NOTIFY takes at commit would
//! serialise the transactions that carry tasks. Losing a ring costs at most the poll interval.

use std::future::poll_fn;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use super::{database::Database, error::StoreError};
use crate::domain::ids::ReplicaId;

const CHANNEL: &str = "tasklease_doorbell";

/// What changed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ring {
    /// Tasks became ready.
    pub ready: bool,
    /// A running task was cancelled.
    pub cancel: bool,
    /// A task moved or made progress.
    pub watch: bool,
    /// A queue was paused or resumed.
    pub pause: bool,
}

impl Ring {
    /// Everything, for when rings may have been missed.
    pub const ALL: Self = Self {
        ready: true,
        cancel: true,
        watch: true,
        pause: true,
    };

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ready: self.ready || other.ready,
            cancel: self.cancel || other.cancel,
            watch: self.watch || other.watch,
            pause: self.pause || other.pause,
        }
    }

    fn encode(self, from: ReplicaId) -> String {
        let mut text = format!("{from} ");
        text.extend(
            [
                (self.ready, 'r'),
                (self.cancel, 'c'),
                (self.watch, 'w'),
                (self.pause, 'p'),
            ]
            .into_iter()
            .filter(|(rung, _)| *rung)
            .map(|(_, letter)| letter),
        );
        text
    }

    /// `None` if `me` rang.
    fn decode(text: &str, me: ReplicaId) -> Option<Self> {
        let (from, letters) = text.split_once(' ')?;
        (from != me.to_string()).then(|| Self {
            ready: letters.contains('r'),
            cancel: letters.contains('c'),
            watch: letters.contains('w'),
            pause: letters.contains('p'),
        })
    }
}

impl Database {
    /// Rings at the other replicas.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ring(&self, from: ReplicaId, ring: Ring) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached("SELECT pg_notify($1, $2)").await?;
        connection
            .execute(&statement, &[&CHANNEL, &ring.encode(from)])
            .await?;
        Ok(())
    }

    /// Listens on a connection of its own until that breaks, passing on what other replicas ring.
    ///
    /// # Errors
    /// The connection cannot be made or broke.
    pub async fn listen(&self, me: ReplicaId, rings: mpsc::Sender<Ring>) -> Result<(), StoreError> {
        let (client, mut connection) = self.listen_config().connect(NoTls).await?;
        let (messages_in, mut messages) = mpsc::channel(64);
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(note)) => {
                        if messages_in.send(note.payload().to_owned()).await.is_err() {
                            break;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        let listening = client.batch_execute(&format!("LISTEN {CHANNEL}")).await;
        if let Err(error) = listening {
            driver.abort();
            return Err(error.into());
        }
        // Whatever was rung while nobody listened.
        let _ = rings.send(Ring::ALL).await;
        while let Some(text) = messages.recv().await {
            if let Some(ring) = Ring::decode(&text, me)
                && rings.send(ring).await.is_err()
            {
                break;
            }
        }
        driver.abort();
        Err(StoreError::Transient("the doorbell connection ended".into()))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_ring_reaches_others_but_not_the_ringer() {
        let (me, other) = (ReplicaId(Uuid::from_u128(1)), ReplicaId(Uuid::from_u128(2)));
        let ring = Ring {
            ready: true,
            cancel: false,
            watch: true,
            pause: true,
        };
        assert_eq!(Ring::decode(&ring.encode(other), me), Some(ring));
        assert_eq!(Ring::decode(&ring.encode(me), me), None);
        assert_eq!(Ring::decode("garbage", me), None);
    }
}
