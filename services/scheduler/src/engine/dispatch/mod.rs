//! Who runs what next: everything here is memory and decisions. It does no input or output but to look names up.
//!
//! ```text
//!                 credit, streams                 tasks became ready
//!      calls ───────────┐                ┌─────────── writers, peers, maintenance
//!                       ▼                ▼
//!                 ┌──────────────────────────┐
//!                 │      LocalSessions       │  sessions connected here, their leases
//!                 │  ┌────────────────────┐  │
//!                 │  │      Planner       │  │  credit, pools, lanes, marks: a pure state machine
//!                 │  └────────────────────┘  │
//!                 └────┬────────────────┬────┘
//!                      ▼                ▼
//!        plan: what to claim      pushes: leases, cancels, ends
//!        (writers::claimer)       (the two streams of a worker)
//! ```
//!
//! A lane is a task type in a queue. Sessions that serve the same lanes form a pool. The planner joins the credit of the
//! pools to the lanes that may hold tasks, best priority first, and says which claims to make; their answers come back
//! to it. Nothing of this is durable: leases are rows, and a session whose streams move to another replica is loaded
//! there again.

pub(super) mod lanes;
pub(super) mod local_sessions;
mod planner;
