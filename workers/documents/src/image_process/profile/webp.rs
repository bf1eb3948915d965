//! The colour profile of a WebP file.

use super::{Profile, Refused};

/// `RIFF`, the size of the rest, `WEBP`.
const HEADER_BYTES: usize = 12;

/// The content of the chunk `ICCP`.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((name, behind)) = rest.split_first_chunk::<4>()
        && let Some((length, behind)) = behind.split_first_chunk::<4>()
        && let Ok(length) = usize::try_from(u32::from_le_bytes(*length))
        && let Some(content) = behind.get(..length)
    {
        if name == b"ICCP" {
            Profile::check_size(length)?;
            return Ok(Some(Profile::new(content.to_vec())));
        }
        // Chunks begin at even places.
        rest = behind.get(length + length % 2..).unwrap_or_default();
    }
    Ok(None)
}
