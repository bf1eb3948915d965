//! The colour profile of a PNG file, and the file without what could inflate.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::ZlibDecoder;

use super::{MAX_PROFILE_BYTES, Profile, Refused};

const SIGNATURE_BYTES: usize = 8;

/// Largest metadata chunk that is left to the decoder; one of EXIF has 64 KiB at most.
const MAX_METADATA_BYTES: usize = 64 << 10;

/// One chunk of the file.
struct Chunk<'a> {
    name: [u8; 4],
    content: &'a [u8],
    /// With length, name and checksum.
    whole: &'a [u8],
}

/// The profile, inflated up to the limit and no further.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let Some(chunk) = chunks(bytes).find(|chunk| &chunk.name == b"iCCP") else {
        return Ok(None);
    };
    // A name, a zero, the number of the compression.
    let Some(name) = chunk.content.iter().position(|&byte| byte == 0) else {
        return Ok(None);
    };
    let Some([0, compressed @ ..]) = chunk.content.get(name + 1..) else {
        return Ok(None);
    };
    let mut inflated = Vec::new();
    let limit = MAX_PROFILE_BYTES as u64 + 1;
    let read = ZlibDecoder::new(compressed)
        .take(limit)
        .read_to_end(&mut inflated);
    Profile::check_size(inflated.len())?;
    // What cannot be inflated is no profile.
    Ok(read.ok().map(|_| Profile::new(inflated)))
}

/// The file without its profile, texts and other metadata of any size: the decoder would keep or
/// inflate them, and nobody here asks for them.
pub(in super::super) fn without_metadata(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_dropped = |chunk: &Chunk| match &chunk.name {
        b"iCCP" | b"tEXt" | b"zTXt" | b"iTXt" => true,
        // A chunk that every decoder must know begins with a capital.
        [first, ..] => {
            first.is_ascii_lowercase() && chunk.content.len() > MAX_METADATA_BYTES && &chunk.name != b"fdAT"
        }
    };
    if !chunks(bytes).any(|chunk| is_dropped(&chunk)) {
        return Cow::Borrowed(bytes);
    }
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend(&bytes[..SIGNATURE_BYTES.min(bytes.len())]);
    let mut walked = SIGNATURE_BYTES;
    for chunk in chunks(bytes) {
        walked += chunk.whole.len();
        if !is_dropped(&chunk) {
            kept.extend(chunk.whole);
        }
    }
    // A chunk that is cut off, for the decoder to complain about.
    kept.extend(bytes.get(walked..).unwrap_or_default());
    Cow::Owned(kept)
}

/// All chunks that are whole.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (name, content) = behind.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let content = content.get(..length)?;
        let (whole, behind) = rest.split_at_checked(length.checked_add(12)?)?;
        rest = behind;
        Some(Chunk {
            name: *name,
            content,
            whole,
        })
    })
}
