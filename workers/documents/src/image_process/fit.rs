//! How an image is brought into the wanted width and height.

use std::str::FromStr;

use crate::failure::{Failure, Kind};

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl From<Size> for [u32; 2] {
    fn from(size: Size) -> [u32; 2] {
        [size.width, size.height]
    }
}

/// The rule by which the new size follows from the old one and the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The bounds exactly; the image is stretched if need be.
    Exact,
    /// As large as fits inside the bounds, in the old proportions.
    Contain,
    /// Fills the bounds exactly in the old proportions; the rest is cut off evenly at both sides.
    Cover,
}

/// The new size, and whether the old image is cut to its proportions first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) target: Size,
    pub(super) crop: Crop,
}

/// The part of the old image that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crop {
    Whole,
    CentredToProportions,
}

impl Fit {
    /// Finds the new size of an image.
    pub(super) fn plan(self, original: Size, bounds: Size) -> Plan {
        match self {
            Fit::Exact => Plan {
                target: bounds,
                crop: Crop::Whole,
            },
            Fit::Cover => Plan {
                target: bounds,
                crop: Crop::CentredToProportions,
            },
            Fit::Contain => Plan {
                target: contained(original, bounds),
                crop: Crop::Whole,
            },
        }
    }
}

fn contained(original: Size, bounds: Size) -> Size {
    let scaled = |side: u32, by: u32, of: u32| {
        let rounded = (u64::from(side) * u64::from(by) + u64::from(of) / 2) / u64::from(of);
        u32::try_from(rounded).unwrap_or(u32::MAX)
    };
    // Which side meets its bound first, without fractions.
    let wide = u64::from(original.width) * u64::from(bounds.height)
        >= u64::from(original.height) * u64::from(bounds.width);
    if wide {
        let height = scaled(original.height, bounds.width, original.width);
        Size {
            width: bounds.width,
            height: height.clamp(1, bounds.height),
        }
    } else {
        let width = scaled(original.width, bounds.height, original.height);
        Size {
            width: width.clamp(1, bounds.width),
            height: bounds.height,
        }
    }
}

impl FromStr for Fit {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Fit, Failure> {
        match name.to_ascii_lowercase().as_str() {
            "exact" => Ok(Fit::Exact),
            "contain" => Ok(Fit::Contain),
            "cover" => Ok(Fit::Cover),
            _ => Err(Failure::new(
                Kind::InvalidParameter,
                format!("field `fit`: {name:?} is unknown; use exact, contain or cover"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn contain_keeps_the_proportions_inside_the_bounds() {
        for (original, bounds, expected) in [
            (size(400, 200), size(800, 600), size(800, 400)),
            (size(200, 400), size(800, 600), size(300, 600)),
            (size(4000, 3000), size(800, 600), size(800, 600)),
            (size(65_535, 1), size(800, 600), size(800, 1)),
            (size(1, 65_535), size(800, 600), size(1, 600)),
            (size(3, 2), size(100, 100), size(100, 67)),
        ] {
            assert_eq!(
                Fit::Contain.plan(original, bounds).target,
                expected,
                "{original:?}"
            );
        }
    }
}
