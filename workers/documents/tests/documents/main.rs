//! The task types on real files, and every way in which they may be refused or stopped.

#![allow(
    clippy::unwrap_used,
    reason = "what surrounds a test may fail as loudly as the test"
)]

mod bucket;
mod colours;
mod dummy;
mod folder;
mod image_refusals;
mod images;
mod jpeg_writer;
mod jpegs;
mod metadata_limits;
mod paths;
mod profiled;
mod recorder;
mod tokens;
mod workspace;
