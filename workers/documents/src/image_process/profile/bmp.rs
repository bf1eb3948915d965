//! The colour profile of a BMP file.

use super::{Profile, Refused};

/// Where the header of the image begins, behind that of the file.
const HEADER: usize = 14;

/// The size of the first header that has a place for a profile.
const HEADER_BYTES: u32 = 124;

/// The profile that the header points at, if it is in the file itself.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let is_embedded = number(bytes, 0).is_some_and(|size| size >= HEADER_BYTES)
        && bytes.get(HEADER + 56..HEADER + 60) == Some(b"DEBM");
    let (Some(offset), Some(length), true) = (number(bytes, 112), number(bytes, 116), is_embedded) else {
        return Ok(None);
    };
    let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
        return Ok(None);
    };
    let content = bytes
        .get(HEADER.saturating_add(offset)..)
        .and_then(|behind| behind.get(..length));
    let Some(content) = content else {
        return Ok(None);
    };
    Profile::check_size(length)?;
    Ok(Some(Profile::new(content.to_vec())))
}

/// A number in the header of the image.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(HEADER + at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}
