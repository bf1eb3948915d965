//! Colours mean the same after the task as before, whatever the profile and the formats.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Luma, Rgb, RgbImage, Rgba,
    RgbaImage,
};
use moxcms::{ColorProfile, Layout, TransformOptions};
use serde_json::json;

use crate::images::run;
use crate::jpeg_writer::{Jpeg, Process, Sampling, Scan};
use crate::profiled::{FORMATS, encoded};
use crate::runs::undisturbed;
use crate::workspace::Workspace;

/// Display P3, whose red and green are stronger than those of sRGB.
fn wide() -> Vec<u8> {
    ColorProfile::new_display_p3().encode().unwrap()
}

/// The numbers by which sRGB means the colour that Display P3 means by these.
fn srgb_of_wide(wide: [u8; 3]) -> [u8; 3] {
    let linear = wide.map(|value| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    [
        [1.2249, -0.2247, 0.0],
        [-0.0420, 1.0419, 0.0],
        [-0.0197, -0.0786, 1.0979],
    ]
    .map(|row| {
        let value: f64 = row.iter().zip(linear).map(|(factor, value)| factor * value).sum();
        let value = if value <= 0.003_130_8 {
            value * 12.92
        } else {
            1.055 * value.powf(1.0 / 2.4) - 0.055
        };
        (value.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

/// The profile that lies in a file as it is, found by the mark in its header.
fn profile_in(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes.windows(4).position(|four| four == b"acsp")? - 36;
    let size = u32::from_be_bytes(bytes[start..start + 4].try_into().unwrap());
    Some(bytes[start..start + size as usize].to_vec())
}

/// The middle pixel as a viewer shows it that knows profiles, and whether there is one.
fn shown(bytes: &[u8]) -> ([u8; 4], bool) {
    let mut decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .unwrap()
        .into_decoder()
        .unwrap();
    let profile = if bytes.starts_with(b"II") {
        // The decoder does not give what its own encoder has written.
        profile_in(bytes)
    } else {
        decoder.icc_profile().unwrap()
    };
    let image = DynamicImage::from_decoder(decoder).unwrap().into_rgba8();
    let pixel = image.get_pixel(image.width() / 2, image.height() / 2).0;
    let Some(profile) = profile else {
        return (pixel, false);
    };
    let mut converted = [0; 4];
    ColorProfile::new_from_slice(&profile)
        .unwrap()
        .create_transform_8bit(
            Layout::Rgba,
            &ColorProfile::new_srgb(),
            Layout::Rgba,
            TransformOptions::default(),
        )
        .unwrap()
        .transform(&pixel, &mut converted)
        .unwrap();
    (converted, true)
}

async fn converted(bytes: Vec<u8>, format: &str) -> Vec<u8> {
    let workspace = Workspace::new();
    workspace.write("in", bytes);
    let params = json!({ "format": format, "width": 16, "height": 16, "quality": 100 });
    run(&workspace, &undisturbed(), params).await.unwrap();
    workspace.read("out")
}

fn assert_close(found: [u8; 4], expected: [u8; 4], what: &str) {
    let close = (0..4).all(|channel| found[channel].abs_diff(expected[channel]) <= 4);
    assert!(close, "{what}: {found:?} instead of {expected:?}");
}

#[tokio::test]
async fn a_wide_colour_is_kept_or_converted_from_every_format_to_every_format() {
    let profile = wide();
    for colour in [[200, 90, 70], [80, 180, 90], [120, 60, 200], [255, 255, 255]] {
        let [red, green, blue] = srgb_of_wide(colour);
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, Rgb(colour)));
        for (name, format) in FORMATS {
            let bytes = encoded(&image, format, &profile);
            for (output, _) in FORMATS {
                let (found, _) = shown(&converted(bytes.clone(), output).await);
                assert_close(
                    found,
                    [red, green, blue, 255],
                    &format!("{colour:?}, {name} to {output}"),
                );
            }
        }
    }
}

#[tokio::test]
async fn a_profile_goes_along_where_the_format_holds_one() {
    let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, Rgb([200, 90, 70])));
    let bytes = encoded(&image, ImageFormat::Png, &wide());
    for (output, holds) in [
        ("JPEG", true),
        ("PNG", true),
        ("TIFF", true),
        ("WebP", true),
        ("GIF", false),
        ("BMP", false),
    ] {
        assert_eq!(
            shown(&converted(bytes.clone(), output).await).1,
            holds,
            "{output}"
        );
    }
}

#[tokio::test]
async fn transparency_and_a_profile_go_together() {
    let colour = [200, 90, 70];
    let [red, green, blue] = srgb_of_wide(colour);
    for (alpha, output, expected) in [
        (128, "WebP", [red, green, blue, 128]),
        (128, "PNG", [red, green, blue, 128]),
        (0, "GIF", [0, 0, 0, 0]),
        (255, "GIF", [red, green, blue, 255]),
        (0, "BMP", [255, 255, 255, 255]),
        (0, "JPEG", [255, 255, 255, 255]),
        (255, "BMP", [red, green, blue, 255]),
    ] {
        let pixel = Rgba([colour[0], colour[1], colour[2], alpha]);
        let image = DynamicImage::ImageRgba8(RgbaImage::from_pixel(16, 16, pixel));
        let bytes = encoded(&image, ImageFormat::Png, &wide());
        let (found, _) = shown(&converted(bytes, output).await);
        assert_close(found, expected, &format!("alpha {alpha} to {output}"));
    }
}

#[tokio::test]
async fn grey_with_a_profile_of_grey_becomes_the_same_grey_of_srgb() {
    // Numbers in proportion to the light; sRGB says 137 for a quarter of it.
    let profile = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let image = DynamicImage::ImageLuma8(GrayImage::from_pixel(16, 16, Luma([64])));
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff] {
        let bytes = encoded(&image, format, &profile);
        for (output, _) in FORMATS {
            let (found, _) = shown(&converted(bytes.clone(), output).await);
            assert_close(found, [137, 137, 137, 255], &format!("{format:?} to {output}"));
        }
    }
}

/// A profile of inks in which full cyan alone is middle grey, which no guess would give.
fn ink_profile() -> Vec<u8> {
    let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    for at in 0..9 {
        table.extend(if at % 4 == 0 { [0, 1, 0, 0] } else { [0; 4] });
    }
    for _ in 0..4 {
        table.extend(0..=255u8);
    }
    for corner in 0..16 {
        // Lightness, and no colour at all; the first ink counts most.
        let lightness = match corner {
            0 => 255,
            8 => 128,
            _ => 0,
        };
        table.extend([lightness, 128, 128]);
    }
    for _ in 0..3 {
        table.extend(0..=255u8);
    }
    let mut profile = vec![0; 128];
    profile[8..12].copy_from_slice(&[2, 0x40, 0, 0]);
    profile[12..24].copy_from_slice(b"prtrCMYKLab ");
    profile[36..40].copy_from_slice(b"acsp");
    // The white of print, as every profile states it.
    profile[68..80].copy_from_slice(&[0, 0, 0xF6, 0xD6, 0, 1, 0, 0, 0, 0, 0xD3, 0x2D]);
    profile.extend(1u32.to_be_bytes());
    profile.extend(b"A2B0");
    profile.extend(144u32.to_be_bytes());
    profile.extend((table.len() as u32).to_be_bytes());
    profile.extend(table);
    let size = profile.len() as u32;
    profile[..4].copy_from_slice(&size.to_be_bytes());
    profile
}

#[tokio::test]
async fn inks_are_mixed_as_their_profile_says() {
    let profile = ink_profile();
    let mut segment = b"\xFF\xE2".to_vec();
    segment.extend((profile.len() as u16 + 16).to_be_bytes());
    segment.extend(b"ICC_PROFILE\0\x01\x01");
    segment.extend(&profile);
    let jpeg = Jpeg {
        width: 16,
        height: 16,
        process: Process::Baseline,
        samplings: vec![Sampling { across: 1, down: 1 }; 4],
        scans: vec![Scan {
            components: vec![0, 1, 2, 3],
            band: (0, 63),
            bits: (0, 0),
        }],
        restart: None,
        extra: segment,
    }
    .write(|component, _, _| if component == 0 { 255.0 } else { 0.0 });

    for (name, bytes) in [("JPEG", jpeg), ("TIFF", ink_tiff(&profile))] {
        for (output, _) in FORMATS {
            let (found, _) = shown(&converted(bytes.clone(), output).await);
            assert_close(found, [119, 119, 119, 255], &format!("{name} to {output}"));
        }
    }
}

/// A TIFF file of full cyan.
fn ink_tiff(profile: &[u8]) -> Vec<u8> {
    let pixels = [255, 0, 0, 0].repeat(16 * 16);
    let entries: [(u16, u16, u32, u32); 10] = [
        (256, 3, 1, 16),
        (257, 3, 1, 16),
        (258, 3, 4, 134),
        (259, 3, 1, 1),
        // Separated, which means inks.
        (262, 3, 1, 5),
        (273, 4, 1, 142),
        (277, 3, 1, 4),
        (278, 3, 1, 16),
        (279, 4, 1, pixels.len() as u32),
        (34_675, 7, profile.len() as u32, 142 + pixels.len() as u32),
    ];
    let mut out = b"II*\0\x08\0\0\0".to_vec();
    out.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out.extend([0; 4]);
    assert_eq!(out.len(), 134);
    for _ in 0..4 {
        out.extend(8u16.to_le_bytes());
    }
    out.extend(pixels);
    out.extend(profile);
    out
}

#[tokio::test]
async fn a_profile_that_cannot_be_read_or_is_of_another_kind_counts_as_none() {
    let mut broken = wide();
    broken.truncate(200);
    let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let image = RgbImage::from_pixel(16, 16, Rgb([200, 90, 70]));
    for (name, profile) in [
        ("broken", broken),
        ("grey", grey),
        ("ink", ink_profile()),
        ("empty", Vec::new()),
    ] {
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_icc_profile(profile).unwrap();
        encoder
            .write_image(&image, 16, 16, image::ExtendedColorType::Rgb8)
            .unwrap();
        for output in ["GIF", "BMP"] {
            let (found, _) = shown(&converted(bytes.clone(), output).await);
            assert_close(found, [200, 90, 70, 255], &format!("{name} profile to {output}"));
        }
    }
}
