//! Collects every rule that a message breaks, so that its sender learns of all of them at once.

use std::fmt;

use crate::domain::error::{Error, Violation, spell_out};

/// The rules that a message breaks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    /// Returns the value of a field that breaks no rule, and remembers the broken rules of one that does.
    pub(super) fn keep<T>(&mut self, field: Result<T, impl Into<Self>>) -> Option<T> {
        field.map_err(|broken| self.0.extend(broken.into().0)).ok()
    }

    /// The value that was put together from all fields; an error if any of them breaks a rule.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The same violations, of fields inside `parent`.
    pub(super) fn within(self, parent: &str) -> Self {
        Self(
            self.0
                .into_iter()
                .map(|violation| violation.within(parent))
                .collect(),
        )
    }
}

/// Puts a struct together from one `Result` for each field, or collects the broken rules of all of them.
macro_rules! checked {
    ($($type:ident)::+ { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut violations = $crate::api::violations::Violations::default();
        $(let $field = violations.keep($value);)*
        violations.finish(match ($($field,)*) {
            ($(Some($field),)*) => Some($($type)::+ { $($field),* }),
            _ => None,
        })
    }};
}
pub(super) use checked;

/// A field that no sender can get wrong.
pub(super) fn valid<T>(value: T) -> Result<T, Violation> {
    Ok(value)
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self(vec![violation])
    }
}

impl From<Vec<Violation>> for Violations {
    fn from(violations: Vec<Violation>) -> Self {
        Self(violations)
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations.0)
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spell_out(&self.0))
    }
}

#[cfg(test)]
impl Violations {
    /// The paths of the wrong fields.
    pub(super) fn fields(&self) -> Vec<&str> {
        self.0.iter().map(|violation| violation.field.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Point {
        x: i32,
        y: i32,
    }

    #[derive(Debug, PartialEq)]
    struct Line {
        from: Point,
        width: i32,
    }

    fn small(number: i32, field: &str) -> Result<i32, Violation> {
        if number < 10 {
            Ok(number)
        } else {
            Err(Violation::new(field, "must be less than 10"))
        }
    }

    fn line(x: i32, y: i32, width: i32) -> Result<Line, Violations> {
        let from = checked!(Point {
            x: small(x, "x"),
            y: small(y, "y"),
        });
        checked!(Line {
            from: from.map_err(|broken| broken.within("from")),
            width: small(width, "width"),
        })
    }

    #[test]
    fn all_wrong_fields_are_reported_at_once_with_their_paths() {
        let broken = line(10, 11, 12).expect_err("three fields are wrong");
        assert_eq!(broken.fields(), ["from.x", "from.y", "width"]);
        let broken = line(1, 11, 2).expect_err("one field is wrong");
        assert_eq!(broken.to_string(), "from.y: must be less than 10");
    }

    #[test]
    fn a_message_without_wrong_fields_is_put_together() {
        let from = Point { x: 1, y: 2 };
        assert_eq!(line(1, 2, 3), Ok(Line { from, width: 3 }));
    }
}
