//! Page sizes and page tokens.
//!
//! A token says where the next page begins and for which filters it was made; with others it is refused.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use uuid::Uuid;

use crate::domain::{error::Violation, limits};

/// Reads a page size; zero means the default.
pub(super) fn size(size: i32) -> Result<i64, Violation> {
    match size {
        0 => Ok(i64::from(limits::DEFAULT_PAGE)),
        size if (1..=limits::PAGE).contains(&size) => Ok(i64::from(size)),
        size => Err(Violation::new(
            "page_size",
            format!("must be 1 to {}, is {size}", limits::PAGE),
        )),
    }
}

/// A token for a page that begins after `id`.
pub(super) fn token(id: Uuid, filters: impl Hash) -> String {
    format!("{}{:016x}", id.simple(), fingerprint(filters))
}

/// Reads a token; `None` for the first page.
pub(super) fn start(token: &str, filters: impl Hash) -> Result<Option<Uuid>, Violation> {
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
