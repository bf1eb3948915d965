//! From the bytes of a file to pixels, within limits that hold before decoding starts.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits,
};

use super::fit::Size;
use super::jpeg;
use super::jpeg_structure::Structure;
use super::picture::Picture;
use super::profile::{Profile, Space, png};
use super::raw::Raw;
use super::tiff_inks;
use crate::failure::{Failure, Kind};
use tasklease_files::FilePath;

/// Bytes of one decoded pixel, at most: four channels of sixteen bits.
const MAX_BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may allocate besides the pixels.
const DECODER_SPARE_BYTES: u64 = 64 << 20;

/// Most pixels of an image, read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimit(pub u64);

impl PixelLimit {
    fn max_bytes(self) -> u64 {
        self.0.saturating_mul(MAX_BYTES_PER_PIXEL)
    }

    fn check_input(self, size: Size) -> Result<(), Failure> {
        if size.pixels() > self.0 {
            return Err(Failure::new(
                Kind::InputTooLarge,
                format!(
                    "it is an image of {} x {} pixels, the worker accepts {} pixels",
                    size.width, size.height, self.0
                ),
            ));
        }
        Ok(())
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
    path: &'a FilePath,
    source: Source<'a>,
    size: Size,
    orientation: Orientation,
    profile: Option<Profile>,
}

/// What the pixels are decoded with.
enum Source<'a> {
    Jpeg(&'a [u8], Structure<'a>),
    /// A TIFF file of inks, which must be mixed by their profile.
    TiffInks(&'a [u8], Limits),
    Other(Box<dyn ImageDecoder + 'a>),
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
    guarded(path, || match format {
        ImageFormat::Jpeg => open_jpeg(path, bytes, limit),
        _ => open_other(path, bytes, format, limit),
    })
}

fn open_jpeg<'a>(path: &'a FilePath, bytes: &'a [u8], limit: PixelLimit) -> Result<Opened<'a>, Failure> {
    let mut structure = Structure::read(bytes)?;
    let size = Size {
        width: u32::from(structure.width),
        height: u32::from(structure.height),
    };
    limit.check_input(size)?;
    Ok(Opened {
        path,
        size,
        // Broken metadata is no reason to refuse the picture.
        orientation: structure
            .exif
            .and_then(Orientation::from_exif_chunk)
            .unwrap_or(Orientation::NoTransforms),
        profile: structure.profile.take(),
        source: Source::Jpeg(bytes, structure),
    })
}

fn open_other<'a>(
    path: &'a FilePath,
    bytes: &'a [u8],
    format: ImageFormat,
    limit: PixelLimit,
) -> Result<Opened<'a>, Failure> {
    let profile = Profile::find(format, bytes)?;
    let content = match format {
        ImageFormat::Png => png::without_metadata(bytes),
        _ => bytes.into(),
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(limit.max_bytes().saturating_add(DECODER_SPARE_BYTES));
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| failure(&error))?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height };
    limit.check_input(size)?;
    if decoder.total_bytes() > limit.max_bytes() {
        return Err(Failure::new(Kind::InputTooLarge, "its pixels are too large"));
    }
    // From here on a small image may use little, whatever the largest may use.
    let mut limits = Limits::default();
    limits.max_alloc = Some(size.pixels() * MAX_BYTES_PER_PIXEL + DECODER_SPARE_BYTES);
    decoder
        .set_limits(limits.clone())
        .map_err(|error| failure(&error))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let is_inks = matches!(
        decoder.original_color_type(),
        ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16
    );
    let has_ink_profile = profile.as_ref().and_then(Profile::space) == Some(Space::Inks);
    let source = if is_inks && has_ink_profile {
        Source::TiffInks(bytes, limits)
    } else {
        Source::Other(Box::new(decoder))
    };
    Ok(Opened {
        path,
        source,
        size,
        orientation,
        profile,
    })
}

impl Opened<'_> {
    /// The size with the orientation applied, as a viewer shows it.
    pub(super) fn shown_size(&self) -> Size {
        let Size { width, height } = self.size;
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => Size {
                width: height,
                height: width,
            },
            _ => self.size,
        }
    }

    /// Decodes the pixels, of an animation the first frame.
    pub(super) fn decode(self) -> Result<Picture, Failure> {
        let (source, profile) = (self.source, self.profile);
        let mut picture = guarded(self.path, || {
            let raw = match source {
                Source::Jpeg(bytes, structure) => jpeg::decode(bytes, &structure)?,
                Source::TiffInks(bytes, limits) => tiff_inks::decode(bytes, &limits)?,
                Source::Other(decoder) => Raw::Image(pixels(decoder).map_err(|error| failure(&error))?),
            };
            Ok(raw.settle(profile))
        })?;
        picture.pixels.apply_orientation(self.orientation);
        Ok(picture)
    }
}

fn pixels(decoder: Box<dyn ImageDecoder + '_>) -> ImageResult<DynamicImage> {
    DynamicImage::from_decoder(decoder)
}

/// Runs a decoder, names the file in its failure, and takes a panic for one: the same file would
/// make it panic again.
fn guarded<T>(path: &FilePath, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Failure { kind, message })) => {
            Err(Failure::new(kind, format!("cannot decode {path}: {message}")))
        }
        Err(_) => Err(Failure::new(
            Kind::InvalidImage,
            format!("cannot decode {path}: the decoder gave up on it"),
        )),
    }
}

fn failure(error: &ImageError) -> Failure {
    let kind = match error {
        ImageError::Limits(_) => Kind::InputTooLarge,
        ImageError::Unsupported(_) => Kind::UnsupportedFormat,
        _ => Kind::InvalidImage,
    };
    Failure::new(kind, error.to_string())
}
