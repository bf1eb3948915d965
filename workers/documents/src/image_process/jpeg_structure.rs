//! What a JPEG file is made of, told before anything is decoded.
//!
//! The decoder gets a few rare kinds of files wrong without noticing. They can be told by the
//! headers alone, and are refused here.

use super::profile::{Profile, Refused};
use crate::failure::{Failure, Kind};

/// Most scans of one picture. Each costs a pass over the whole picture, however small it is;
/// encoders write about ten.
const MAX_SCANS: usize = 100;

/// Most blocks that the scans of several components may interleave, by the standard.
const MAX_INTERLEAVED_BLOCKS: usize = 10;

const EXIF: &[u8] = b"Exif\0\0";
const PROFILE: &[u8] = b"ICC_PROFILE\0";

/// A JPEG file that the decoder can be trusted with.
#[derive(Debug)]
pub(super) struct Structure<'a> {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) channels: u8,
    pub(super) exif: Option<&'a [u8]>,
    pub(super) profile: Option<Profile>,
    /// Whether an Adobe program wrote it; such files hold inks inverted.
    pub(super) by_adobe: bool,
}

/// The frame header: size and components of the picture.
struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
    most_across: usize,
    most_down: usize,
}

/// One component: its name, and its samples per smallest unit of the picture.
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

impl<'a> Structure<'a> {
    /// Walks through all segments up to the end of the main picture.
    ///
    /// A thumbnail inside a metadata segment has markers as well, so segments are skipped by their
    /// length.
    ///
    /// # Errors
    /// The file is cut off or broken, or is of a kind that is not read here.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Structure<'a>, Failure> {
        let mut frame: Option<Frame> = None;
        let mut scans = 0;
        let mut exif = None;
        let mut parts = Vec::new();
        let mut by_adobe = false;
        let mut rest = bytes.get(2..).unwrap_or_default();
        loop {
            let (marker, after) = next_marker(rest).ok_or_else(cut_off)?;
            match marker {
                // The end of the picture.
                0xD9 => break,
                // Stuffing, restart markers and other markers without content.
                0x00 | 0x01 | 0xD0..=0xD8 => {
                    rest = after;
                    continue;
                }
                _ => {}
            }
            let (content, behind) = segment(after).ok_or_else(cut_off)?;
            match marker {
                0xC0..=0xC2 if frame.is_none() => frame = Some(Frame::read(content)?),
                0xC0..=0xC2 | 0xC5..=0xC7 | 0xDE | 0xDF => return Err(unsupported("hierarchical coding")),
                0xC3 => return Err(unsupported("lossless coding")),
                0xC9..=0xCF => return Err(unsupported("arithmetic coding")),
                0xDC => return Err(unsupported("a height that follows the picture")),
                0xDA => {
                    let frame = frame.as_ref().ok_or_else(|| broken("a scan before the frame"))?;
                    frame.check_scan(content)?;
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(unsupported("more than 100 scans"));
                    }
                }
                0xE1 if exif.is_none() => exif = content.strip_prefix(EXIF),
                0xE2 => parts.extend(content.strip_prefix(PROFILE)),
                0xEE => by_adobe |= content.starts_with(b"Adobe") && content.len() >= 12,
                _ => {}
            }
            // Behind a scan header the search runs through the image data, in which every 0xFF is
            // stuffed.
            rest = behind;
        }
        let frame = frame.filter(|_| scans > 0).ok_or_else(|| broken("no picture"))?;
        Ok(Structure {
            // Both came from sixteen bits, and there are four components at most.
            width: u16::try_from(frame.width).unwrap_or(u16::MAX),
            height: u16::try_from(frame.height).unwrap_or(u16::MAX),
            channels: u8::try_from(frame.components.len()).unwrap_or(u8::MAX),
            exif,
            profile: assemble(parts)?,
            by_adobe,
        })
    }
}

impl Frame {
    fn read(content: &[u8]) -> Result<Frame, Failure> {
        let short = || broken("a frame header that is too short");
        let (header, components) = content.split_first_chunk::<6>().ok_or_else(short)?;
        let [precision, h1, h0, w1, w0, count] = *header;
        if precision != 8 {
            return Err(unsupported("samples of another size than eight bits"));
        }
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        if height == 0 {
            return Err(unsupported("a height that follows the picture"));
        }
        if width == 0 {
            return Err(broken("a width of zero"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported("another number of channels than 1, 3 or 4"));
        }
        let components: Vec<Component> = components
            .chunks_exact(3)
            .take(usize::from(count))
            .map(|entry| Component {
                id: entry[0],
                across: usize::from(entry[1] >> 4),
                down: usize::from(entry[1] & 15),
            })
            .collect();
        if components.len() != usize::from(count) {
            return Err(short());
        }
        let range = 1..=4;
        if components
            .iter()
            .any(|it| !range.contains(&it.across) || !range.contains(&it.down))
        {
            return Err(broken("a sampling factor that is not 1 to 4"));
        }
        let most_across = components.iter().map(|it| it.across).max().unwrap_or(1);
        let most_down = components.iter().map(|it| it.down).max().unwrap_or(1);
        if components
            .iter()
            .any(|it| most_across % it.across != 0 || most_down % it.down != 0)
        {
            return Err(unsupported("fractional sampling"));
        }
        Ok(Frame {
            width,
            height,
            components,
            most_across,
            most_down,
        })
    }

    /// Checks that the decoder reads as many blocks from this scan as there are.
    fn check_scan(&self, content: &[u8]) -> Result<(), Failure> {
        let (&count, entries) = content
            .split_first()
            .ok_or_else(|| broken("an empty scan header"))?;
        let mut inside = Vec::new();
        for entry in entries.chunks_exact(2).take(usize::from(count)) {
            let component = self.components.iter().find(|it| it.id == entry[0]);
            inside.push(component.ok_or_else(|| broken("a scan of a channel that does not exist"))?);
        }
        if inside.is_empty() || inside.len() != usize::from(count) {
            return Err(broken("a scan header that is too short"));
        }
        let [single] = inside.as_slice() else {
            let blocks: usize = inside.iter().map(|it| it.across * it.down).sum();
            if blocks > MAX_INTERLEAVED_BLOCKS {
                return Err(broken("a scan of more than ten blocks at a time"));
            }
            return Ok(());
        };
        // The scan holds the blocks that the channel's own samples need. The decoder reads the blocks
        // that whole units need, as far as they begin within the size of the picture.
        let agrees = |size: usize, factor: usize, most: usize| {
            let held = (size * factor).div_ceil(most).div_ceil(8);
            let read = (size.div_ceil(8 * most) * factor).min(size.div_ceil(8));
            held == read
        };
        if agrees(self.width, single.across, self.most_across)
            && agrees(self.height, single.down, self.most_down)
        {
            Ok(())
        } else {
            Err(unsupported("a scan of its own for a channel of this sampling"))
        }
    }
}

/// Puts the profile together, which may be spread over many segments.
fn assemble(mut parts: Vec<&[u8]>) -> Result<Option<Profile>, Failure> {
    // Each begins with its number from 1 and the count of all.
    parts.sort_by_key(|part| part.first().copied());
    let whole = parts
        .iter()
        .enumerate()
        .all(|(index, part)| part.len() >= 2 && usize::from(part[0]) == index + 1);
    if parts.is_empty() || !whole || parts.first().map(|part| usize::from(part[1])) != Some(parts.len()) {
        return Ok(None);
    }
    let size = parts.iter().map(|part| part.len() - 2).sum();
    Profile::check_size(size).map_err(Refused::into_failure)?;
    let bytes = parts.iter().flat_map(|part| &part[2..]).copied().collect();
    Ok(Some(Profile::new(bytes)))
}

/// The byte behind the next run of 0xFF bytes, and what follows it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let start = bytes.iter().position(|&byte| byte == 0xFF)?;
    let behind = bytes.get(start..)?;
    let skip = behind.iter().position(|&byte| byte != 0xFF)?;
    let (&marker, after) = behind.get(skip..)?.split_first()?;
    Some((marker, after))
}

/// The content of a segment, and what follows it.
fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, _) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).max(2);
    let (segment, behind) = bytes.split_at_checked(length)?;
    Some((&segment[2..], behind))
}

fn cut_off() -> Failure {
    broken("it is cut off, its end marker is missing")
}

fn broken(what: &str) -> Failure {
    Failure::new(Kind::InvalidImage, format!("broken JPEG: {what}"))
}

fn unsupported(what: &str) -> Failure {
    Failure::new(
        Kind::UnsupportedFormat,
        format!("this kind of JPEG is not read here: {what}"),
    )
}
