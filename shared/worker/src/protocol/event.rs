//! What happens to a worker.

use bytes::Bytes;
use tasklease_client::ReplicaConnection;
use tasklease_proto::v1::{ClaimTaskResponse, ReportProgressResponse};
use tonic::Status;

use crate::{lease_key::LeaseKey, task::TaskResult};

use super::stream::StreamId;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// On a ClaimTask stream.
    Claim(StreamId, Incoming<ClaimTaskResponse>),
    /// On a ReportProgress stream.
    Report(StreamId, Incoming<ReportProgressResponse>),
    /// The code of a run has left body in its mailbox.
    RunEvents(LeaseKey),
    /// The code of a run has returned.
    Returned {
        /// Whose run it was.
        key: LeaseKey,
        /// What it returned.
        result: TaskResult<Bytes>,
        /// True if no other thread of the run is left.
        frees_slot: bool,
    },
    /// The last thread of a run is done, after its code has returned.
    SlotFreed,
}

/// One thing that happened on a stream.
#[derive(Debug)]
pub(crate) enum Incoming<T> {
    /// A replica was found; the worker speaks first.
    Connected(ReplicaConnection),
    /// The scheduler said something.
    Message(T),
    /// The stream is over; `None` if the scheduler closed it in order.
    Closed(Option<Status>),
}
