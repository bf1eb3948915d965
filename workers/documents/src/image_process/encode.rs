//! From pixels to the bytes of a file.

use std::io::Cursor;

use image::codecs::bmp::BmpEncoder;
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::tiff::TiffEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageError};

use super::alpha;
use super::format::OutputFormat;
use super::picture::Picture;
use crate::failure::{Failure, Kind};

/// Sampling of the GIF palette, 1 (best) to 30 (fastest).
const GIF_SPEED: i32 = 10;

/// Encodes a picture in the wanted format.
pub(super) fn encode(picture: Picture, format: OutputFormat, quality: u8) -> Result<Vec<u8>, Failure> {
    let Picture { mut pixels, profile } = picture;
    let mut out = Cursor::new(Vec::new());
    match format {
        OutputFormat::Jpeg => {
            let pixels = DynamicImage::ImageRgb8(alpha::flattened(pixels));
            write(JpegEncoder::new_with_quality(&mut out, quality), &pixels, profile)
        }
        OutputFormat::Png => write(PngEncoder::new(&mut out), &pixels, profile),
        OutputFormat::Tiff => write(TiffEncoder::new(&mut out), &pixels, profile),
        OutputFormat::Bmp => {
            let pixels = DynamicImage::ImageRgb8(alpha::flattened(pixels));
            write(BmpEncoder::new(out.get_mut()), &pixels, profile)
        }
        OutputFormat::Gif => {
            alpha::on_or_off(&mut pixels);
            let (width, height) = (pixels.width(), pixels.height());
            GifEncoder::new_with_speed(&mut out, GIF_SPEED).encode(
                pixels.as_bytes(),
                width,
                height,
                pixels.color().into(),
            )
        }
        OutputFormat::WebP => return webp(&pixels, quality),
    }
    .map_err(|error| failure(&error))?;
    Ok(out.into_inner())
}

fn write(
    mut encoder: impl ImageEncoder,
    pixels: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<(), ImageError> {
    if let Some(profile) = profile {
        // A format that cannot hold a profile does without.
        let _ = encoder.set_icc_profile(profile);
    }
    let color: ExtendedColorType = pixels.color().into();
    encoder.write_image(pixels.as_bytes(), pixels.width(), pixels.height(), color)
}

fn webp(pixels: &DynamicImage, quality: u8) -> Result<Vec<u8>, Failure> {
    let (bytes, width, height) = (pixels.as_bytes(), pixels.width(), pixels.height());
    let encoder = if pixels.color().has_alpha() {
        webp::Encoder::from_rgba(bytes, width, height)
    } else {
        webp::Encoder::from_rgb(bytes, width, height)
    };
    match encoder.encode_simple(false, f32::from(quality)) {
        Ok(encoded) => Ok(encoded.to_vec()),
        Err(error) => Err(Failure::new(
            Kind::InvalidImage,
            format!("cannot encode the image as WebP: {error:?}"),
        )),
    }
}

fn failure(error: &ImageError) -> Failure {
    Failure::new(Kind::InvalidImage, format!("cannot encode the image: {error}"))
}
