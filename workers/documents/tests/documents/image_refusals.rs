use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use tasklease_worker::TaskError;

use crate::images::{FORMATS, encoded, position, quarters, run};
use crate::runs::undisturbed;
use crate::workspace::Workspace;

async fn refused(workspace: &Workspace, params: Value) -> TaskError {
    let failure = run(workspace, &undisturbed(), params).await.unwrap_err();
    assert!(!failure.is_retryable());
    assert_eq!(workspace.all_files(), ["in"]);
    failure
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

/// Small files whose headers claim an enormous image.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let small = quarters(8, 8);
    let mut png = encoded(&small, ImageFormat::Png);
    png[16..20].copy_from_slice(&65_535u32.to_be_bytes());
    png[20..24].copy_from_slice(&65_535u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());

    let mut jpeg = encoded(&small, ImageFormat::Jpeg);
    let frame = position(&jpeg, &[0xFF, 0xC0]);
    jpeg[frame + 5..frame + 9].fill(0xFF);

    let mut gif = encoded(&small, ImageFormat::Gif);
    gif[6..10].fill(0xFF);

    let mut bmp = encoded(&small, ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());

    let mut webp = encoded(&small, ImageFormat::WebP);
    assert_eq!(webp[20], 0x2F);
    // Width and height less one, fourteen bits each.
    webp[21..25].copy_from_slice(&(16_382u32 | 16_382 << 14).to_le_bytes());

    let mut tiff = encoded(&small, ImageFormat::Tiff);
    // Width, height and rows per strip: one strip of it all.
    for tag in [256u16, 257, 278] {
        let entry = [tag.to_le_bytes(), 4u16.to_le_bytes(), 1u16.to_le_bytes(), [0, 0]].concat();
        let at = position(&tiff, &entry);
        tiff[at + 8..at + 12].copy_from_slice(&60_000u32.to_le_bytes());
    }
    vec![
        ("png", png),
        ("jpeg", jpeg),
        ("gif", gif),
        ("bmp", bmp),
        ("webp", webp),
        ("tiff", tiff),
    ]
}

#[tokio::test]
async fn a_header_that_claims_too_many_pixels_is_refused_before_decoding() {
    for (name, bytes) in bombs() {
        let workspace = Workspace::new();
        workspace.write("in", bytes);
        let failure = refused(&workspace, json!({})).await;
        assert_eq!(failure.kind(), "INPUT_TOO_LARGE", "{name}: {failure}");
    }
}

#[tokio::test]
async fn a_file_with_more_bytes_than_allowed_is_refused() {
    let workspace = Workspace::with_limit(100);
    workspace.write("in", encoded(&quarters(64, 64), ImageFormat::Bmp));
    assert_eq!(refused(&workspace, json!({})).await.kind(), "INPUT_TOO_LARGE");
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused() {
    let noise = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([((x * 37) ^ (y * 91)) as u8, (x * y) as u8, (x * 5 + y * 3) as u8])
    });
    for (name, format) in FORMATS {
        let whole = encoded(&noise, format);
        for keep in [whole.len() / 2, whole.len() - whole.len() / 10] {
            let workspace = Workspace::new();
            workspace.write("in", &whole[..keep]);
            let failure = refused(&workspace, json!({})).await;
            assert_eq!(
                failure.kind(),
                "INVALID_IMAGE",
                "{name} cut to {keep} bytes: {failure}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    for bytes in [
        Vec::new(),
        b"hello".to_vec(),
        vec![0; 4096],
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>".to_vec(),
        b"\x89PNG\r\n\x1a\n".to_vec(),
        [b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 500]].concat(),
        b"\xFF\xD8\xFF\xE0".to_vec(),
        b"GIF89a".to_vec(),
        b"RIFF\0\0\0\0WEBPVP8 ".to_vec(),
        b"II*\0\x08\0\0\0\xFF\xFF".to_vec(),
        b"BM".to_vec(),
        // A format that the decoder library knows but this worker does not read.
        b"#?RADIANCE\n".to_vec(),
    ] {
        let workspace = Workspace::new();
        workspace.write("in", &bytes);
        let failure = refused(&workspace, json!({})).await;
        assert!(
            matches!(failure.kind(), "UNSUPPORTED_FORMAT" | "INVALID_IMAGE"),
            "{:?}: {failure}",
            &bytes[..bytes.len().min(16)]
        );
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_by_field() {
    let workspace = Workspace::new();
    workspace.write("in", encoded(&quarters(8, 8), ImageFormat::Png));
    for (params, kind, field) in [
        (json!({ "width": 0 }), "INVALID_PARAMETERS", "`width`"),
        (json!({ "height": 16_385 }), "INVALID_PARAMETERS", "`height`"),
        (
            json!({ "width": 16_384, "format": "WebP" }),
            "INVALID_PARAMETERS",
            "`width`",
        ),
        (
            json!({ "width": 2000, "height": 2000 }),
            "INVALID_PARAMETERS",
            "`height`",
        ),
        (json!({ "quality": 0 }), "INVALID_PARAMETERS", "`quality`"),
        (json!({ "quality": 101 }), "INVALID_PARAMETERS", "`quality`"),
        (json!({ "format": "SVG" }), "UNSUPPORTED_FORMAT", "`format`"),
        (json!({ "fit": "stretch" }), "INVALID_PARAMETERS", "`fit`"),
        (json!({ "input_file": "../in" }), "PATH_REFUSED", "`input_file`"),
        (
            json!({ "output_file": "/tmp/out" }),
            "PATH_REFUSED",
            "`output_file`",
        ),
    ] {
        let failure = refused(&workspace, params.clone()).await;
        assert_eq!(failure.kind(), kind, "{params}: {failure}");
        assert!(failure.message().contains(field), "{params}: {failure}");
    }
}
