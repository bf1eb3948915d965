//! Breaks a running Tasklease on purpose, and checks from outside that its promises hold.
//!
//! A run has four parts. The [`plan`] is decided by a seed: tasks, calls, and a timetable of faults. [`run`](mod@run)
//! plays it on real processes and a real Postgres, and takes down in the [`history`] what clients, workers and an
//! outside system see. Then all faults end, and it waits until every task has ended. At last
//! [`check`](mod@check), a pure function, finds the promises that the history breaks.

pub mod ability;
pub mod audit;
pub mod bare_worker;
pub mod behaviour;
pub mod check;
pub mod child;
pub mod client;
pub mod clock;
pub mod database;
pub mod fault_kind;
pub mod faults;
pub mod freeze;
pub mod history;
pub mod outside;
pub mod plan;
pub mod pooler;
pub mod promises;
pub mod proxy;
pub mod random;
pub mod recorder;
pub mod run;
pub mod sql_faults;
pub mod stand;
pub mod volume;
