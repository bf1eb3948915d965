//! The task types on real files, and every way in which they may be refused or stopped.

#![allow(
    clippy::unwrap_used,
    reason = "what surrounds a test may fail as loudly as the test"
)]

mod bucket;
mod dummy;
mod folder;
mod image_refusals;
mod images;
mod paths;
mod recorder;
mod tokens;
mod workspace;
