//! Whether a JPEG file is complete.

const END: u8 = 0xD9;

/// Whether the end marker of the main image is there.
///
/// The decoder fills what is missing with grey. A thumbnail inside a metadata segment has an end
/// marker as well, so segments are skipped by their length.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let Some((marker, after)) = next_marker(rest) else {
            return false;
        };
        match marker {
            END => return true,
            // Stuffing, restart markers and other markers that stand alone.
            0x00 | 0x01 | 0xD0..=0xD8 => rest = after,
            _ => {
                let Some((&[high, low], _)) = after.split_first_chunk::<2>() else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(behind) = after.get(length.max(2)..) else {
                    return false;
                };
                // Behind a scan header the search runs through the image data, in which every
                // 0xFF is stuffed.
                rest = behind;
            }
        }
    }
}

/// The byte behind the next run of 0xFF bytes, and what follows it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let start = bytes.iter().position(|&byte| byte == 0xFF)?;
    let behind = bytes.get(start..)?;
    let skip = behind.iter().position(|&byte| byte != 0xFF)?;
    let (&marker, after) = behind.get(skip..)?.split_first()?;
    Some((marker, after))
}
