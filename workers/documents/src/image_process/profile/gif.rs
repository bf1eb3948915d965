//! The colour profile of a GIF file.

use super::{Profile, Refused};

/// The application block that holds a profile.
const NAME: &[u8] = b"\x0BICCRGBG1012";

/// The content of the profile's application block, if it comes before the first image.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let Some(mut rest) = behind_palette(bytes) else {
        return Ok(None);
    };
    while let Some((&[0x21, label], behind)) = rest.split_first_chunk::<2>() {
        let is_profile = label == 0xFF && behind.starts_with(NAME);
        if !is_profile {
            let Some((_, behind)) = sub_blocks(behind)? else {
                return Ok(None);
            };
            rest = behind;
            continue;
        }
        let found = sub_blocks(&behind[NAME.len()..])?;
        return Ok(found.map(|(blocks, _)| Profile::new(blocks.concat())));
    }
    Ok(None)
}

/// What follows the header and the palette for all images.
fn behind_palette(bytes: &[u8]) -> Option<&[u8]> {
    let flags = *bytes.get(10)?;
    let colours = if flags & 0x80 == 0 { 0 } else { 2 << (flags & 7) };
    bytes.get(13 + 3 * colours..)
}

/// The parts of a block up to the empty one, and what follows; `None` if it is cut off.
#[allow(clippy::type_complexity, reason = "a pair of a list and a rest")]
fn sub_blocks(bytes: &[u8]) -> Result<Option<(Vec<&[u8]>, &[u8])>, Refused> {
    let mut parts = Vec::new();
    let mut total = 0;
    let mut rest = bytes;
    while let Some((&length, behind)) = rest.split_first() {
        let Some((part, behind)) = behind.split_at_checked(usize::from(length)) else {
            return Ok(None);
        };
        if length == 0 {
            return Ok(Some((parts, behind)));
        }
        total += part.len();
        // The decoder keeps such blocks, whatever is in them.
        Profile::check_size(total)?;
        parts.push(part);
        rest = behind;
    }
    Ok(None)
}
