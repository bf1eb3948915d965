//! From the bytes of a file to pixels, within limits that hold before decoding starts.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::fit::Size;
use super::jpeg_end;
use super::picture::Picture;
use crate::failure::{Failure, Kind};
use crate::files::FilePath;

/// Bytes of one decoded pixel, at most: four channels of sixteen bits.
const MAX_BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may allocate besides the pixels.
const DECODER_SPARE_BYTES: u64 = 64 << 20;
/// Largest colour profile that is carried over.
const MAX_PROFILE_BYTES: usize = 4 << 20;

/// Most pixels of an image, read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimit(pub u64);

impl PixelLimit {
    fn max_bytes(self) -> u64 {
        self.0.saturating_mul(MAX_BYTES_PER_PIXEL)
    }

    pub(super) fn check_output(self, size: Size) -> Result<(), Failure> {
        if size.pixels() > self.0 {
            return Err(Failure::new(
                Kind::InvalidParameter,
                format!(
                    "fields `width` and `height`: {} x {} are {} pixels, the worker writes {} at most",
                    size.width,
                    size.height,
                    size.pixels(),
                    self.0
                ),
            ));
        }
        Ok(())
    }
}

/// An image whose header has been read and accepted, not yet its pixels.
pub(super) struct Opened<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    path: &'a FilePath,
    bytes: &'a [u8],
    format: ImageFormat,
    orientation: Orientation,
}

/// Reads the header and checks it against the limit.
pub(super) fn open<'a>(
    path: &'a FilePath,
    bytes: &'a [u8],
    limit: PixelLimit,
) -> Result<Opened<'a>, Failure> {
    let unsupported = || {
        Failure::new(
            Kind::UnsupportedFormat,
            format!("{path} is no JPEG, PNG, WebP, GIF, TIFF or BMP image"),
        )
    };
    // The content decides, not the name.
    let format = image::guess_format(bytes)
        .ok()
        .filter(ImageFormat::reading_enabled)
        .ok_or_else(unsupported)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(limit.max_bytes().saturating_add(DECODER_SPARE_BYTES));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| failure(path, &error))?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height };
    if size.pixels() > limit.0 || decoder.total_bytes() > limit.max_bytes() {
        return Err(Failure::new(
            Kind::InputTooLarge,
            format!(
                "{path} is an image of {width} x {height} pixels, the worker accepts {} pixels",
                limit.0
            ),
        ));
    }
    // Broken metadata is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Opened {
        decoder: Box::new(decoder),
        path,
        bytes,
        format,
        orientation,
    })
}

impl Opened<'_> {
    /// The size with the orientation applied, as a viewer shows it.
    pub(super) fn shown_size(&self) -> Size {
        let (width, height) = self.decoder.dimensions();
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => Size {
                width: height,
                height: width,
            },
            _ => Size { width, height },
        }
    }

    /// Decodes the pixels, of an animation the first frame.
    pub(super) fn decode(mut self) -> Result<Picture, Failure> {
        if self.format == ImageFormat::Jpeg && !jpeg_end::has_end(self.bytes) {
            return Err(Failure::new(
                Kind::InvalidImage,
                format!("{} is cut off: its end marker is missing", self.path),
            ));
        }
        let profile = self
            .decoder
            .icc_profile()
            .ok()
            .flatten()
            .filter(|it| is_rgb_profile(it));
        let mut pixels =
            DynamicImage::from_decoder(self.decoder).map_err(|error| failure(self.path, &error))?;
        pixels.apply_orientation(self.orientation);
        Ok(Picture::new(pixels, profile))
    }
}

/// Whether a profile describes RGB pixels, the only ones that leave this module.
fn is_rgb_profile(profile: &[u8]) -> bool {
    profile.len() <= MAX_PROFILE_BYTES && profile.get(16..20) == Some(b"RGB ")
}

fn failure(path: &FilePath, error: &ImageError) -> Failure {
    let kind = match error {
        ImageError::Limits(_) => Kind::InputTooLarge,
        ImageError::Unsupported(_) => Kind::UnsupportedFormat,
        _ => Kind::InvalidImage,
    };
    Failure::new(kind, format!("cannot decode {path}: {error}"))
}
