//! The task types on real files, and every way in which they may be refused or stopped.

#![allow(
    clippy::unwrap_used,
    reason = "what surrounds a test may fail as loudly as the test"
)]

mod colours;
mod dummy;
mod image_refusals;
mod images;
mod jpeg_writer;
mod jpegs;
mod metadata_limits;
mod profiled;
mod runs;
mod tokens;
mod workspace;
