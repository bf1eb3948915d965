//! How much memory an image takes whose metadata is a bomb, alone in a process that is measured.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail at once")]
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "shared with the tests of the task types")]
#[path = "documents/runs.rs"]
mod runs;
#[allow(dead_code, reason = "shared with the tests of the task types")]
#[path = "documents/workspace.rs"]
mod workspace;

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use serde_json::json;
use tasklease_documents::image_process::{Params, PixelLimit, process_image};

use runs::undisturbed;
use workspace::Workspace;

/// What a bomb of fifty MiB may take.
const ALLOWED_KIB: u64 = 20 << 10;

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    out.extend((content.len() as u32).to_be_bytes());
    out.extend(name);
    out.extend(content);
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(content);
    out.extend(crc.sum().to_be_bytes());
}

/// A picture of four times four pixels with one chunk more.
fn png(name: &[u8; 4], head: &[u8], inflated: usize) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(head.to_vec(), Compression::best());
    let zeros = [0; 1 << 10];
    for _ in 0..inflated >> 10 {
        packed.write_all(&zeros).unwrap();
    }
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    pixels.write_all(&[0; 4 * 13]).unwrap();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, b"IHDR", &[0, 0, 0, 4, 0, 0, 0, 4, 8, 2, 0, 0, 0]);
    chunk(&mut out, name, &packed.finish().unwrap());
    chunk(&mut out, b"IDAT", &pixels.finish().unwrap());
    chunk(&mut out, b"IEND", &[]);
    out
}

#[tokio::test]
async fn fifty_mebibytes_of_packed_metadata_are_never_inflated() {
    let workspace = Workspace::new();
    let bombs = [
        ("a profile", png(b"iCCP", b"x\0\0", 50 << 20)),
        ("a text", png(b"zTXt", b"Comment\0\0", 50 << 20)),
        (
            "a text of any language",
            png(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0", 50 << 20),
        ),
        ("nothing", png(b"zTXt", b"Comment\0\0", 0)),
    ];
    for (name, bytes) in bombs {
        workspace.write("in", bytes);
        let params: Params = serde_json::from_value(json!({
            "input_file": "in", "output_file": "out", "format": "PNG", "width": 4, "height": 4,
        }))
        .unwrap();
        let before = peak();
        let run = undisturbed();
        let result = process_image(&workspace.files, PixelLimit(1_000_000), &params, &run.context()).await;
        let taken = peak() - before;
        assert!(taken < ALLOWED_KIB, "{name}: {taken} KiB");
        assert_eq!(result.is_ok(), name != "a profile", "{name}: {result:?}");
    }
}
