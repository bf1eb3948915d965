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
use super::profile::Profile;
use super::webp_container;
use crate::failure::{Failure, Kind};

/// Sampling of the GIF palette, 1 (best) to 30 (fastest).
const GIF_SPEED: i32 = 10;

/// Encodes a picture in the wanted format.
///
/// The colour profile goes along; formats that hold none get the colours converted to sRGB. Where a
/// format has no transparency the picture is laid on white; GIF keeps what is less than half
/// opaque as transparent.
pub(super) fn encode(picture: Picture, format: OutputFormat, quality: u8) -> Result<Vec<u8>, Failure> {
    let mut out = Cursor::new(Vec::new());
    match format {
        OutputFormat::Jpeg => {
            let pixels = DynamicImage::ImageRgb8(alpha::flattened(picture.pixels));
            write(
                JpegEncoder::new_with_quality(&mut out, quality),
                &pixels,
                picture.profile,
            )
        }
        OutputFormat::Png => write(PngEncoder::new(&mut out), &picture.pixels, picture.profile),
        OutputFormat::Tiff => write(TiffEncoder::new(&mut out), &picture.pixels, picture.profile),
        OutputFormat::Bmp => {
            let pixels = DynamicImage::ImageRgb8(alpha::flattened(picture.into_srgb()));
            write(BmpEncoder::new(out.get_mut()), &pixels, None)
        }
        OutputFormat::Gif => {
            let mut pixels = picture.into_srgb();
            alpha::on_or_off(&mut pixels);
            let (width, height) = (pixels.width(), pixels.height());
            GifEncoder::new_with_speed(&mut out, GIF_SPEED).encode(
                pixels.as_bytes(),
                width,
                height,
                pixels.color().into(),
            )
        }
        OutputFormat::WebP => return webp(picture, quality),
    }
    .map_err(|error| failure(&error))?;
    Ok(out.into_inner())
}

fn write(
    mut encoder: impl ImageEncoder,
    pixels: &DynamicImage,
    profile: Option<Profile>,
) -> Result<(), ImageError> {
    if let Some(profile) = profile {
        encoder
            .set_icc_profile(profile.into_bytes())
            .map_err(ImageError::Unsupported)?;
    }
    let color: ExtendedColorType = pixels.color().into();
    encoder.write_image(pixels.as_bytes(), pixels.width(), pixels.height(), color)
}

fn webp(picture: Picture, quality: u8) -> Result<Vec<u8>, Failure> {
    let Picture { pixels, profile } = picture;
    let (bytes, width, height) = (pixels.as_bytes(), pixels.width(), pixels.height());
    let encoder = if pixels.color().has_alpha() {
        webp::Encoder::from_rgba(bytes, width, height)
    } else {
        webp::Encoder::from_rgb(bytes, width, height)
    };
    let encoded = encoder
        .encode_simple(false, f32::from(quality))
        .map_err(|error| {
            Failure::new(
                Kind::InvalidImage,
                format!("cannot encode the image as WebP: {error:?}"),
            )
        })?;
    Ok(match profile {
        Some(profile) => webp_container::with_profile(&encoded, &profile.into_bytes(), width, height),
        None => encoded.to_vec(),
    })
}

fn failure(error: &ImageError) -> Failure {
    Failure::new(Kind::InvalidImage, format!("cannot encode the image: {error}"))
}
