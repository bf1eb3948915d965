//! Colour profiles: what the numbers of an image mean.

mod bmp;
mod gif;
pub(super) mod png;
pub(super) mod tiff;
mod webp;

use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use moxcms::{ColorProfile, Layout, Transform8BitExecutor, TransformOptions};

use crate::failure::{Failure, Kind};

/// Largest colour profile that is read; those of printers have two or three million bytes.
pub(super) const MAX_PROFILE_BYTES: usize = 4 << 20;

/// An ICC profile, as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile(Vec<u8>);

/// The kind of samples that a profile describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Rgb,
    Grey,
    Inks,
}

/// A profile is larger than this worker reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

impl Refused {
    pub(super) fn into_failure(self) -> Failure {
        Failure::new(
            Kind::InputTooLarge,
            format!("its metadata is larger than the {MAX_PROFILE_BYTES} bytes that the worker accepts"),
        )
    }
}

impl Profile {
    /// Takes the bytes of a profile, whose size was checked before they were copied.
    pub(super) fn new(bytes: Vec<u8>) -> Profile {
        Profile(bytes)
    }

    /// Refuses a size before so many bytes are copied or inflated. Going on without the profile
    /// would show wrong colours.
    pub(super) fn check_size(bytes: usize) -> Result<(), Refused> {
        if bytes > MAX_PROFILE_BYTES {
            return Err(Refused);
        }
        Ok(())
    }

    /// Finds the profile in a file of any format but JPEG, whose segments are walked elsewhere.
    ///
    /// # Errors
    /// The profile is larger than the worker accepts.
    pub(super) fn find(format: ImageFormat, bytes: &[u8]) -> Result<Option<Profile>, Failure> {
        let found = match format {
            ImageFormat::Png => png::profile(bytes),
            ImageFormat::WebP => webp::profile(bytes),
            ImageFormat::Gif => gif::profile(bytes),
            ImageFormat::Tiff => tiff::profile(bytes),
            ImageFormat::Bmp => bmp::profile(bytes),
            _ => Ok(None),
        };
        found.map_err(Refused::into_failure)
    }

    /// The bytes for a file that holds the profile.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// What kind of samples it describes, if any that are read here.
    pub(super) fn space(&self) -> Option<Space> {
        match self.0.get(16..20)? {
            b"RGB " => Some(Space::Rgb),
            b"GRAY" => Some(Space::Grey),
            b"CMYK" => Some(Space::Inks),
            _ => None,
        }
    }

    /// Converts an image of RGB or RGBA to sRGB in place; leaves it as it is if the profile cannot
    /// be read.
    pub(super) fn rgb_to_srgb(&self, image: &mut DynamicImage) {
        let (layout, channels) = match image {
            DynamicImage::ImageRgb8(_) => (Layout::Rgb, 3),
            DynamicImage::ImageRgba8(_) => (Layout::Rgba, 4),
            _ => return,
        };
        let Some(transform) = self.transform_to_srgb(layout, layout) else {
            return;
        };
        let row = image.width() as usize * channels;
        let samples: &mut [u8] = match image {
            DynamicImage::ImageRgb8(image) => image,
            DynamicImage::ImageRgba8(image) => image,
            _ => return,
        };
        let mut converted = vec![0; row];
        for line in samples.chunks_exact_mut(row) {
            // Fails only if the lengths do not match.
            if transform.transform(line, &mut converted).is_ok() {
                line.copy_from_slice(&converted);
            }
        }
    }

    /// Converts a grey image to sRGB; `None` if the profile cannot be read.
    pub(super) fn grey_to_srgb(&self, image: &DynamicImage) -> Option<DynamicImage> {
        let (width, height) = (image.width(), image.height());
        if image.color().has_alpha() {
            let transform = self.transform_to_srgb(Layout::GrayAlpha, Layout::Rgba)?;
            let mut converted = RgbaImage::new(width, height);
            by_rows(
                transform.as_ref(),
                &image.to_luma_alpha8(),
                2,
                &mut converted,
                4,
                width,
            )?;
            Some(DynamicImage::ImageRgba8(converted))
        } else {
            let transform = self.transform_to_srgb(Layout::Gray, Layout::Rgb)?;
            let mut converted = RgbImage::new(width, height);
            by_rows(transform.as_ref(), &image.to_luma8(), 1, &mut converted, 3, width)?;
            Some(DynamicImage::ImageRgb8(converted))
        }
    }

    /// Converts inks to sRGB; gives false if the profile cannot be read.
    pub(super) fn inks_to_srgb(&self, inks: &[u8], width: u32, converted: &mut RgbImage) -> bool {
        // Four inks are laid out as RGBA is.
        self.transform_to_srgb(Layout::Rgba, Layout::Rgb)
            .and_then(|transform| by_rows(transform.as_ref(), inks, 4, converted, 3, width))
            .is_some()
    }

    fn transform_to_srgb(&self, from: Layout, to: Layout) -> Option<Arc<Transform8BitExecutor>> {
        let profile = ColorProfile::new_from_slice(&self.0).ok()?;
        let srgb = ColorProfile::new_srgb();
        profile
            .create_transform_8bit(from, &srgb, to, TransformOptions::default())
            .ok()
    }
}

/// Converts a whole image, row by row; `None` if the lengths do not match.
fn by_rows(
    transform: &Transform8BitExecutor,
    from: &[u8],
    from_channels: usize,
    to: &mut [u8],
    to_channels: usize,
    width: u32,
) -> Option<()> {
    let width = width as usize;
    let rows = from.chunks_exact(width * from_channels);
    for (from, to) in rows.zip(to.chunks_exact_mut(width * to_channels)) {
        transform.transform(from, to).ok()?;
    }
    Some(())
}
