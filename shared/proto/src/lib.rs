//! The Tasklease contract in Rust: generated messages, clients and servers of
//! `proto/tasklease/v1`, and the JSON form of `google.protobuf.Struct`.
//!
//! [`v1`] holds the generated code, [`limits`] every bound of the contract, [`text`] brings texts for people within
//! them, [`json`] turns payloads into JSON text and back, [`convert`] turns durations and times, [`codec`] frames
//! messages. [`FILE_DESCRIPTOR_SET`] feeds reflection.

#![warn(missing_docs)]

pub mod codec;
pub mod convert;
pub mod json;
pub mod limits;
mod log_level;
pub mod text;

/// Encoded `google.protobuf.FileDescriptorSet` of the contract and its imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The generated code of package `tasklease.v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("tasklease.v1");
}
