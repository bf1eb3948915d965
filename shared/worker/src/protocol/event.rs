//! The events that the actor handles.

use bytes::Bytes;
use tasklease_client::ReplicaConnection;
use tasklease_proto::v1::{ClaimTaskResponse, ReportProgressResponse};
use tonic::Status;

use crate::{lease_key::LeaseKey, task::TaskResult};

use super::stream::StreamId;

/// An event.
#[derive(Debug)]
pub(crate) enum Event {
    /// On a ClaimTask stream.
    Claim(StreamId, Incoming<ClaimTaskResponse>),
    /// On a ReportProgress stream.
    Report(StreamId, Incoming<ReportProgressResponse>),
    /// The code of a run has put something into its mailbox.
    RunEvents(LeaseKey),
    /// The code of a run has returned.
    Returned {
        /// The lease of the run.
        key: LeaseKey,
        /// What it returned.
        result: TaskResult<Bytes>,
        /// True if no other thread of the run is left.
        frees_slot: bool,
    },
    /// The last thread of a run is done, after its code has returned.
    SlotFreed,
}

/// An event of a stream.
#[derive(Debug)]
pub(crate) enum Incoming<T> {
    /// A replica was found; the worker speaks first.
    Connected(ReplicaConnection),
    /// A message of the scheduler.
    Message(T),
    /// The stream is over; `None` if the scheduler closed it in order.
    Closed(Option<Status>),
}
