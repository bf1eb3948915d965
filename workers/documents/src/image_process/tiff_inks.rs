//! Inks of a TIFF file, which the general decoder mixes without asking their profile.

use std::io::Cursor;

use image::Limits;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult};

use super::raw::{Inks, Raw};
use crate::failure::{Failure, Kind};

/// Decodes the first image, which is known to be one of four inks.
///
/// # Errors
/// The image data is broken, too large, or in planes.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Raw, Failure> {
    let most = limits
        .max_alloc
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let mut bounds = tiff::decoder::Limits::default();
    bounds.decoding_buffer_size = most;
    bounds.intermediate_buffer_size = most;
    let mut decoder = Decoder::new(Cursor::new(bytes))
        .map_err(failure)?
        .with_limits(bounds);
    let (width, height) = decoder.dimensions().map_err(failure)?;
    let samples = match decoder.read_image().map_err(failure)? {
        DecodingResult::U8(samples) => samples,
        // The upper half is what eight bits can hold.
        DecodingResult::U16(samples) => samples.into_iter().map(|it| it.to_be_bytes()[0]).collect(),
        _ => return Err(unsupported("TIFF inks of this depth are not read here")),
    };
    Inks::new(width, height, samples)
        .map(Raw::Inks)
        .ok_or_else(|| unsupported("TIFF inks in planes are not read here"))
}

fn unsupported(message: &str) -> Failure {
    Failure::new(Kind::UnsupportedFormat, message)
}

fn failure(error: TiffError) -> Failure {
    let kind = match error {
        TiffError::LimitsExceeded => Kind::InputTooLarge,
        TiffError::UnsupportedError(_) => Kind::UnsupportedFormat,
        _ => Kind::InvalidImage,
    };
    Failure::new(kind, error.to_string())
}
