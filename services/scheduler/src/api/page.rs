//! Page sizes and page tokens.
//!
//! A token says where the next page begins and for which filters it was made; with others it is refused.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use uuid::Uuid;

use super::violations::{Violations, checked};
use crate::domain::{error::Violation, limits};

/// Which page a caller asks for.
pub(super) struct Page {
    /// How many entries it may have.
    pub(super) size: usize,
    /// The last entry of the page before; `None` for the first page.
    pub(super) after: Option<Uuid>,
}

/// Checks which page a caller asks for; the token must have been made for the same filters.
pub(super) fn check(page_size: i32, page_token: &str, filters: impl Hash) -> Result<Page, Violations> {
    checked!(Page {
        size: size(page_size),
        after: start(page_token, filters),
    })
}

/// Reads a page size; zero means the default.
pub(super) fn size(size: i32) -> Result<usize, Violation> {
    let wanted = if size == 0 { limits::DEFAULT_PAGE } else { size };
    usize::try_from(wanted)
        .ok()
        .filter(|_| (1..=limits::PAGE).contains(&wanted))
        .ok_or_else(|| Violation::new("page_size", format!("must be 1 to {}, got {size}", limits::PAGE)))
}

/// A token for a page that begins after `id`.
pub(super) fn token(id: Uuid, filters: impl Hash) -> String {
    format!("{}{:016x}", id.simple(), fingerprint(filters))
}

/// Reads a token; `None` for the first page.
fn start(token: &str, filters: impl Hash) -> Result<Option<Uuid>, Violation> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = |problem| Violation::new("page_token", problem);
    let (id, print) = token
        .split_at_checked(32)
        .ok_or_else(|| invalid("is not a token of this call"))?;
    let id = Uuid::try_parse(id).map_err(|_| invalid("is not a token of this call"))?;
    if print != format!("{:016x}", fingerprint(filters)) {
        return Err(invalid("was made for other filters; start again without it"));
    }
    Ok(Some(id))
}

/// The same for every replica of one version; a token that meets another version may be refused, not misread.
fn fingerprint(filters: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    filters.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_for_its_own_filters_only() {
        let id = Uuid::from_u128(5);
        let token = token(id, ("queue", 1));
        assert_eq!(start(&token, ("queue", 1)), Ok(Some(id)));
        assert!(start(&token, ("queue", 2)).is_err());
        assert_eq!(start("", 0), Ok(None));
        for garbage in ["x", "ä", &"g".repeat(48), &"0".repeat(47)] {
            assert!(start(garbage, 0).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_page_has_a_size_within_bounds() {
        assert_eq!((size(0), size(1), size(1_000)), (Ok(100), Ok(1), Ok(1_000)));
        assert!(size(-1).is_err() && size(1_001).is_err() && size(i32::MAX).is_err());
    }
}
