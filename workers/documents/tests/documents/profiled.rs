//! Images with a colour profile, in every format that has a place for one.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat};

/// The formats that hold a profile, by name.
pub(crate) const FORMATS: [(&str, ImageFormat); 6] = crate::images::FORMATS;

/// Encodes an image of RGB together with a profile.
pub(crate) fn encoded(image: &DynamicImage, format: ImageFormat, profile: &[u8]) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    match format {
        ImageFormat::Png => write(PngEncoder::new(&mut out), image, profile),
        ImageFormat::Jpeg => write(JpegEncoder::new_with_quality(&mut out, 100), image, profile),
        ImageFormat::Tiff => write(TiffEncoder::new(&mut out), image, profile),
        ImageFormat::WebP => write(WebPEncoder::new_lossless(&mut out), image, profile),
        ImageFormat::Gif => return gif(image, profile),
        ImageFormat::Bmp => return bmp(image, profile),
        _ => panic!("{format:?}"),
    }
    out.into_inner()
}

fn write(mut encoder: impl ImageEncoder, image: &DynamicImage, profile: &[u8]) {
    encoder.set_icc_profile(profile.to_vec()).unwrap();
    encoder
        .write_image(
            image.as_bytes(),
            image.width(),
            image.height(),
            image.color().into(),
        )
        .unwrap();
}

/// Puts the profile into an application block behind the palette.
fn gif(image: &DynamicImage, profile: &[u8]) -> Vec<u8> {
    let mut plain = Cursor::new(Vec::new());
    image.write_to(&mut plain, ImageFormat::Gif).unwrap();
    let plain = plain.into_inner();
    let colours = if plain[10] & 0x80 == 0 {
        0
    } else {
        2 << (plain[10] & 7)
    };
    let (header, images) = plain.split_at(13 + 3 * colours);
    let mut out = header.to_vec();
    // A comment before it is skipped.
    out.extend(b"\x21\xFE\x05hello\x00");
    out.extend(b"\x21\xFF\x0BICCRGBG1012");
    for part in profile.chunks(255) {
        out.push(part.len() as u8);
        out.extend(part);
    }
    out.push(0);
    out.extend(images);
    out
}

/// A bitmap of the fifth version of the header, which has a place for a profile.
fn bmp(image: &DynamicImage, profile: &[u8]) -> Vec<u8> {
    let image = image.to_rgb8();
    let (width, height) = (image.width(), image.height());
    let mut pixels = Vec::new();
    for row in image.rows().rev() {
        let start = pixels.len();
        row.for_each(|pixel| pixels.extend([pixel[2], pixel[1], pixel[0]]));
        while (pixels.len() - start) % 4 != 0 {
            pixels.push(0);
        }
    }
    let mut header = [0u8; 124];
    let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0, 124);
    put(4, width);
    put(8, height);
    // One plane, 24 bits, not compressed.
    put(12, 1 | 24 << 16);
    put(20, pixels.len() as u32);
    put(56, u32::from_be_bytes(*b"MBED"));
    put(112, 124 + pixels.len() as u32);
    put(116, profile.len() as u32);
    let size = (14 + 124 + pixels.len() + profile.len()) as u32;
    let mut out = b"BM".to_vec();
    out.extend(size.to_le_bytes());
    out.extend([0; 4]);
    out.extend((14u32 + 124).to_le_bytes());
    out.extend(header);
    out.extend(pixels);
    out.extend(profile);
    out
}
