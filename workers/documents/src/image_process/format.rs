//! The formats that images are written in.

use std::str::FromStr;

use serde::Serialize;

use crate::failure::{Failure, Kind};

/// A format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OutputFormat {
    /// Lossy, without transparency.
    #[serde(rename = "JPEG")]
    Jpeg,
    /// Lossless.
    #[serde(rename = "PNG")]
    Png,
    /// Lossy.
    WebP,
    /// 256 colours, fully transparent pixels.
    #[serde(rename = "GIF")]
    Gif,
    /// Lossless, uncompressed.
    #[serde(rename = "TIFF")]
    Tiff,
    /// Uncompressed, without transparency.
    #[serde(rename = "BMP")]
    Bmp,
}

impl OutputFormat {
    /// The longest side that the format itself can hold.
    pub(super) fn max_side(self) -> u32 {
        match self {
            OutputFormat::WebP => 16_383,
            OutputFormat::Jpeg | OutputFormat::Gif => 65_535,
            OutputFormat::Png | OutputFormat::Tiff | OutputFormat::Bmp => u32::MAX,
        }
    }
}

impl FromStr for OutputFormat {
    type Err = Failure;

    fn from_str(name: &str) -> Result<OutputFormat, Failure> {
        match name.to_ascii_lowercase().as_str() {
            "jpeg" | "jpg" => Ok(OutputFormat::Jpeg),
            "png" => Ok(OutputFormat::Png),
            "webp" => Ok(OutputFormat::WebP),
            "gif" => Ok(OutputFormat::Gif),
            "tiff" | "tif" => Ok(OutputFormat::Tiff),
            "bmp" => Ok(OutputFormat::Bmp),
            _ => Err(Failure::new(
                Kind::UnsupportedFormat,
                format!(
                    "field `format`: {name:?} is not written here; use JPEG, PNG, WebP, GIF, TIFF or BMP"
                ),
            )),
        }
    }
}
