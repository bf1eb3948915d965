//! The container of a WebP file, which the encoder writes without a place for a profile.

/// `RIFF`, the size of the rest, `WEBP`.
const HEADER_BYTES: usize = 12;

const HAS_PROFILE: u8 = 0x20;
const HAS_ALPHA: u8 = 0x10;

/// Puts a profile into an encoded image of this size.
pub(super) fn with_profile(encoded: &[u8], profile: &[u8], width: u32, height: u32) -> Vec<u8> {
    let image = encoded.get(HEADER_BYTES..).unwrap_or_default();
    // An image with transparency comes with a header of ten bytes that says so.
    let (flags, image) = match image {
        [
            b'V',
            b'P',
            b'8',
            b'X',
            10,
            0,
            0,
            0,
            flags,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            image @ ..,
        ] => (*flags, image),
        _ => (0, image),
    };
    let mut content = b"WEBP".to_vec();
    let mut header = vec![flags & HAS_ALPHA | HAS_PROFILE, 0, 0, 0];
    for side in [width, height] {
        header.extend(&(side - 1).to_le_bytes()[..3]);
    }
    chunk(&mut content, b"VP8X", &header);
    chunk(&mut content, b"ICCP", profile);
    content.extend(image);
    let mut file = Vec::with_capacity(content.len() + 8);
    chunk(&mut file, b"RIFF", &content);
    file
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    out.extend(name);
    // A profile and an image of 16,383 pixels a side stay far below four gigabytes.
    out.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(content);
    if content.len() % 2 == 1 {
        out.push(0);
    }
}
