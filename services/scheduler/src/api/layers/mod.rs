//! What every call has in common, as tower layers.

mod deadline;
mod repair;
mod request_id;

pub use self::{deadline::DeadlineLayer, repair::RepairLayer, request_id::RequestIdLayer};
