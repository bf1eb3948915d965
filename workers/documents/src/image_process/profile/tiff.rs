//! The colour profile of a TIFF file, and the bounds of what the decoder reads besides it.

use super::{MAX_PROFILE_BYTES, Profile, Refused};

/// The tag of the profile.
const PROFILE: u64 = 34_675;

/// The tags whose values the decoder reads as a whole, each entry taking several times its size:
/// bits per sample, places and lengths of strips and tiles, palette, sample formats, tables of JPEG.
const READ_AS_A_WHOLE: [u64; 9] = [258, 273, 279, 320, 324, 325, 339, 347, PROFILE];

/// The profile of the first image.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let Some(file) = File::open(bytes) else {
        return Ok(None);
    };
    let mut found = None;
    for entry in file.entries() {
        if READ_AS_A_WHOLE.contains(&entry.tag) && entry.bytes > MAX_PROFILE_BYTES as u64 {
            return Err(Refused);
        }
        if entry.tag == PROFILE {
            found = file.value(&entry).map(|value| Profile::new(value.to_vec()));
        }
    }
    Ok(found)
}

/// A TIFF file of either kind, in either byte order.
struct File<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    /// The size of places and counts: 4, or 8 in a BigTIFF file.
    word: usize,
}

/// One entry of the first directory.
struct Entry {
    tag: u64,
    /// The size of its value, as far as its type is known.
    bytes: u64,
    /// Where its value, or the place of its value, is.
    field: usize,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<File<'a>> {
        let mut file = File {
            bytes,
            little_endian: bytes.starts_with(b"II"),
            word: 4,
        };
        match file.number(2, 2)? {
            42 => {}
            43 => file.word = 8,
            _ => return None,
        }
        Some(file)
    }

    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let field = self.bytes.get(at..at.checked_add(size)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.little_endian {
            field.iter().rev().fold(0, add)
        } else {
            field.iter().fold(0, add)
        })
    }

    /// The entries of the first directory, as far as they are in the file.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let word = self.word;
        let count_size = if word == 8 { 8 } else { 2 };
        let entry_size = 4 + 2 * word;
        let start = self
            .number(word, word)
            .and_then(|place| usize::try_from(place).ok());
        let count = start
            .and_then(|start| self.number(start, count_size))
            .unwrap_or(0);
        let first = start.unwrap_or(0).saturating_add(count_size);
        // No file has more entries than tags exist.
        (0..usize::try_from(count.min(65_536)).unwrap_or(0)).map_while(move |index| {
            let at = first.checked_add(index * entry_size)?;
            let size: u64 = match self.number(at + 2, 2)? {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16 | 17 | 18 => 8,
                _ => 1,
            };
            Some(Entry {
                tag: self.number(at, 2)?,
                bytes: self.number(at + 4, word)?.saturating_mul(size),
                field: at + 4 + word,
            })
        })
    }

    fn value(&self, entry: &Entry) -> Option<&'a [u8]> {
        let size = usize::try_from(entry.bytes).ok()?;
        let start = if size <= self.word {
            entry.field
        } else {
            usize::try_from(self.number(entry.field, self.word)?).ok()?
        };
        self.bytes.get(start..start.checked_add(size)?)
    }
}
