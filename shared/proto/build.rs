//! Compiles `proto/` without protoc and keeps the descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO_ROOT: &str = "../../proto";
/// The services; what they import is compiled with them.
const FILES: [&str; 3] = [
    "tasklease/v1/task_service.proto",
    "tasklease/v1/queue_service.proto",
    "tasklease/v1/worker_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Payload bytes go from the row to the frame without a copy.
        .bytes(".tasklease.v1")
        .codec_path("crate::codec::SmallBufferCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
