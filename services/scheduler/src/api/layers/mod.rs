//! What every call has in common, as tower layers.

mod deadline;
mod request_id;
mod status_codes;

pub use self::{deadline::DeadlineLayer, request_id::RequestIdLayer, status_codes::StatusCodesLayer};
