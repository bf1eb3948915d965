//! Pixels of a JPEG file.

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, Error, PixelFormat};

use super::jpeg_structure::Structure;
use super::raw::{Inks, Raw};
use crate::failure::{Failure, Kind};

/// Decodes the picture.
///
/// # Errors
/// The image data is broken.
pub(super) fn decode(bytes: &[u8], structure: &Structure) -> Result<Raw, Failure> {
    let mut decoder = Decoder::new(bytes);
    let (width, height) = (u32::from(structure.width), u32::from(structure.height));
    let size = u64::from(width) * u64::from(height) * u64::from(structure.channels);
    decoder.set_max_decoding_buffer_size(usize::try_from(size).unwrap_or(usize::MAX));
    let mut samples = decoder.decode().map_err(|error| failure(&error))?;
    let format = decoder.info().map(|info| info.pixel_format);
    let raw = match format {
        Some(PixelFormat::L8) => GrayImage::from_raw(width, height, samples)
            .map(|image| Raw::Image(DynamicImage::ImageLuma8(image))),
        Some(PixelFormat::RGB24) => {
            RgbImage::from_raw(width, height, samples).map(|image| Raw::Image(DynamicImage::ImageRgb8(image)))
        }
        Some(PixelFormat::CMYK32) => {
            // The decoder inverts, as it is right for Adobe's files.
            if !structure.by_adobe {
                samples.iter_mut().for_each(|ink| *ink = 255 - *ink);
            }
            Inks::new(width, height, samples).map(Raw::Inks)
        }
        _ => None,
    };
    raw.ok_or_else(|| {
        Failure::new(
            Kind::InvalidImage,
            "broken JPEG: the picture has another size than its header says",
        )
    })
}

fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::Unsupported(_) => Kind::UnsupportedFormat,
        _ => Kind::InvalidImage,
    };
    Failure::new(kind, error.to_string())
}
