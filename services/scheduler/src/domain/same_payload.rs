//! Whether two payloads are the same JSON value.

use serde_json::Value;

/// True if two JSON texts are the same value: spacing and the order of keys do not count.
pub fn same(stored: &str, submitted: &str) -> bool {
    if stored == submitted {
        return true;
    }
    let parse = |text| serde_json::from_str::<Value>(text);
    matches!((parse(stored), parse(submitted)), (Ok(one), Ok(other)) if one == other)
}
