//! Samples as a file holds them, before their colours are settled.

use image::{DynamicImage, RgbImage};

use super::picture::Picture;
use super::profile::{Profile, Space};

/// Samples as a file holds them.
#[derive(Debug)]
pub(super) enum Raw {
    /// Grey or RGB, with or without transparency.
    Image(DynamicImage),
    /// Cyan, magenta, yellow and black.
    Inks(Inks),
}

/// An image of four inks, eight bits each, 255 for full ink.
#[derive(Debug)]
pub(super) struct Inks {
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

impl Inks {
    /// An image of this size, if there are as many samples as it needs.
    pub(super) fn new(width: u32, height: u32, samples: Vec<u8>) -> Option<Inks> {
        let needed = u64::from(width) * u64::from(height) * 4;
        (samples.len() as u64 == needed).then_some(Inks {
            width,
            height,
            samples,
        })
    }

    /// Mixes the inks as their profile says, or as ideal inks without one.
    fn into_rgb(self, profile: Option<&Profile>) -> RgbImage {
        let mut rgb = RgbImage::new(self.width, self.height);
        let converted =
            profile.is_some_and(|profile| profile.inks_to_srgb(&self.samples, self.width, &mut rgb));
        if !converted {
            for (pixel, inks) in rgb.pixels_mut().zip(self.samples.chunks_exact(4)) {
                let light = |ink: u8| {
                    let product = u32::from(255 - ink) * u32::from(255 - inks[3]);
                    // Rounded; at most 255 because both factors are.
                    u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
                };
                pixel.0 = [light(inks[0]), light(inks[1]), light(inks[2])];
            }
        }
        rgb
    }
}

impl Raw {
    /// Reduces the samples to RGB, in the colours that their profile means.
    ///
    /// A profile of RGB stays with the picture, so that nothing is lost where the output can hold
    /// it. Profiles of grey and of inks describe samples that are gone, so these are converted to
    /// sRGB here. A profile of another kind than the samples, or one that cannot be read, counts as
    /// none, as it does for viewers.
    pub(super) fn settle(self, profile: Option<Profile>) -> Picture {
        let space = profile.as_ref().and_then(Profile::space);
        match self {
            Raw::Inks(inks) => {
                let profile = profile.filter(|_| space == Some(Space::Inks));
                Picture::new(DynamicImage::ImageRgb8(inks.into_rgb(profile.as_ref())), None)
            }
            Raw::Image(image) if space == Some(Space::Rgb) => Picture::new(image, profile),
            Raw::Image(image) if space == Some(Space::Grey) && !image.color().has_color() => {
                let grey = profile.and_then(|profile| profile.grey_to_srgb(&image));
                Picture::new(grey.unwrap_or(image), None)
            }
            Raw::Image(image) => Picture::new(image, None),
        }
    }
}
