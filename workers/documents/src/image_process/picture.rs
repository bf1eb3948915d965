//! A decoded image in memory.

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{ColorType, DynamicImage};

use super::fit::{Crop, Plan, Size};
use super::profile::Profile;
use crate::failure::{Failure, Kind};

/// Pixels of eight bits per channel, RGB or RGBA, with the colour profile they are meant in.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) pixels: DynamicImage,
    pub(super) profile: Option<Profile>,
}

impl Picture {
    /// Reduces any decoded image to RGB, or to RGBA if it has transparency.
    pub(super) fn new(decoded: DynamicImage, profile: Option<Profile>) -> Picture {
        let pixels = match decoded.color() {
            ColorType::Rgb8 | ColorType::Rgba8 => decoded,
            color if color.has_alpha() => DynamicImage::ImageRgba8(decoded.into_rgba8()),
            _ => DynamicImage::ImageRgb8(decoded.into_rgb8()),
        };
        Picture { pixels, profile }
    }

    pub(super) fn size(&self) -> Size {
        Size {
            width: self.pixels.width(),
            height: self.pixels.height(),
        }
    }

    /// Converts to sRGB, for formats that hold no profile.
    pub(super) fn into_srgb(mut self) -> DynamicImage {
        if let Some(profile) = self.profile {
            profile.rgb_to_srgb(&mut self.pixels);
        }
        self.pixels
    }

    /// Resizes with a Lanczos filter; transparent pixels do not bleed their colour.
    pub(super) fn resized(self, plan: Plan) -> Result<Picture, Failure> {
        if plan.target == self.size() {
            return Ok(self);
        }
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
        let options = match plan.crop {
            Crop::Whole => options,
            Crop::CentredToProportions => options.fit_into_destination(Some((0.5, 0.5))),
        };
        let Size { width, height } = plan.target;
        let mut pixels = DynamicImage::new(width, height, self.pixels.color());
        Resizer::new()
            .resize(&self.pixels, &mut pixels, &options)
            .map_err(|error| Failure::new(Kind::InvalidImage, format!("cannot resize the image: {error}")))?;
        Ok(Picture {
            pixels,
            profile: self.profile,
        })
    }
}
