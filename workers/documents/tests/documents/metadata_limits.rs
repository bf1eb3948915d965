//! Metadata is bounded before it is copied or inflated, in every format.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::json;
use tasklease_worker::TaskResult;

use crate::images::{encoded, run};
use crate::profiled;
use crate::runs::undisturbed;
use crate::workspace::Workspace;

/// More than any profile that is read.
const TOO_LARGE: usize = (4 << 20) + 1;

fn picture() -> RgbImage {
    RgbImage::from_pixel(4, 4, Rgb([200, 90, 70]))
}

fn zeros(size: usize) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    out.write_all(&vec![0; size]).unwrap();
    out.finish().unwrap()
}

/// A PNG file with one more chunk behind its header.
fn png_with(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let plain = encoded(&picture(), ImageFormat::Png);
    let (header, rest) = plain.split_at(33);
    let mut chunk = name.to_vec();
    chunk.extend(content);
    let mut out = header.to_vec();
    out.extend((content.len() as u32).to_be_bytes());
    out.extend(&chunk);
    out.extend(crate::image_refusals::crc32(&chunk).to_be_bytes());
    out.extend(rest);
    out
}

async fn outcome(bytes: Vec<u8>) -> TaskResult<()> {
    let workspace = Workspace::new();
    workspace.write("in", bytes);
    let params = json!({ "format": "PNG", "width": 4, "height": 4 });
    run(&workspace, &undisturbed(), params).await.map(drop)
}

#[tokio::test]
async fn a_profile_that_is_too_large_is_refused_in_every_format() {
    let mut profile = vec![0; TOO_LARGE];
    profile[16..20].copy_from_slice(b"RGB ");
    let image = DynamicImage::ImageRgb8(picture());
    for (name, format) in profiled::FORMATS {
        let failure = outcome(profiled::encoded(&image, format, &profile))
            .await
            .unwrap_err();
        assert_eq!(failure.kind(), "INPUT_TOO_LARGE", "{name}: {failure}");
    }
}

#[tokio::test]
async fn a_profile_that_inflates_beyond_the_limit_is_refused() {
    let content = [b"x\0\0".as_slice(), &zeros(50 << 20)].concat();
    let failure = outcome(png_with(b"iCCP", &content)).await.unwrap_err();
    assert_eq!(failure.kind(), "INPUT_TOO_LARGE", "{failure}");
}

#[tokio::test]
async fn texts_and_other_chunks_of_any_size_are_passed_over() {
    let packed = zeros(50 << 20);
    let plain = vec![b'x'; 16 << 20];
    for (name, content) in [
        (b"zTXt", [b"Comment\0\0".as_slice(), &packed].concat()),
        (
            b"iTXt",
            [b"XML:com.adobe.xmp\0\x01\0\0\0".as_slice(), &packed].concat(),
        ),
        (b"tEXt", [b"Comment\0".as_slice(), &plain].concat()),
        (b"eXIf", plain.clone()),
        (b"prVt", plain.clone()),
    ] {
        let result = outcome(png_with(name, &content)).await;
        assert!(result.is_ok(), "{}: {result:?}", String::from_utf8_lossy(name));
    }
}

#[tokio::test]
async fn a_tiff_directory_that_claims_millions_of_strips_is_refused_before_they_are_read() {
    let mut tiff = Cursor::new(Vec::new());
    picture().write_to(&mut tiff, ImageFormat::Tiff).unwrap();
    let mut tiff = tiff.into_inner();
    for tag in [273u16, 279] {
        let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
        let count = usize::from(u16::from_le_bytes(
            tiff[directory..directory + 2].try_into().unwrap(),
        ));
        let entry = (0..count)
            .map(|index| directory + 2 + index * 12)
            .find(|&at| tiff[at..at + 2] == tag.to_le_bytes())
            .unwrap();
        tiff[entry + 4..entry + 8].copy_from_slice(&3_000_000u32.to_le_bytes());
    }
    tiff.resize(16 << 20, 0);
    let failure = outcome(tiff).await.unwrap_err();
    assert_eq!(failure.kind(), "INPUT_TOO_LARGE", "{failure}");
}
