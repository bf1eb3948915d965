//! Names that people choose.

use std::fmt;

use super::{error::Violation, limits};

/// The queue of a task that names none.
pub const DEFAULT_QUEUE: &str = "default";

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks a name; `field` is what an error names.
            ///
            /// # Errors
            /// A name that is empty, too long, or uses other characters than the contract allows.
            pub fn parse(name: impl AsRef<str> + Into<String>, field: &str) -> Result<Self, Violation> {
                check(name.as_ref(), limits::NAME_CHARS)
                    .map(|()| Self(name.into()))
                    .map_err(|problem| Violation::new(field, problem))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Selects the code that runs a task.
    TaskType
}
name! {
    /// A named stream of tasks.
    QueueName
}
name! {
    /// A tenant: what owns queues and tasks.
    Namespace
}

impl Default for Namespace {
    /// The namespace of all tasks, until there are others.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl QueueName {
    /// Like [`QueueName::parse`], where an empty name means the default queue.
    ///
    /// # Errors
    /// Those of [`QueueName::parse`].
    pub fn parse_or_default(name: impl AsRef<str> + Into<String>, field: &str) -> Result<Self, Violation> {
        if name.as_ref().is_empty() {
            Self::parse(DEFAULT_QUEUE, field)
        } else {
            Self::parse(name, field)
        }
    }
}

/// Checks the alphabet and length that task types, queues and label keys share.
pub(super) fn check(name: &str, longest: usize) -> Result<(), String> {
    let Some(first) = name.bytes().next() else {
        return Err("must not be empty".into());
    };
    if name.len() > longest {
        return Err(format!(
            "must be at most {longest} characters, has {}",
            name.chars().count()
        ));
    }
    if !first.is_ascii_alphanumeric() {
        return Err("must start with a letter or digit (a-z, A-Z, 0-9)".into());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte);
    if !name.bytes().all(allowed) {
        return Err("may only use letters, digits, `_`, `-`, `.`, `/` and `:`".into());
    }
    Ok(())
}

/// Checks a text for people: bounded, and without NUL, which Postgres cannot store.
///
/// # Errors
/// A text that is too long or holds a NUL character.
pub fn check_text(text: &str, longest: usize, field: &str) -> Result<(), Violation> {
    if text.len() > longest && text.chars().count() > longest {
        return Err(Violation::new(
            field,
            format!("must be at most {longest} characters"),
        ));
    }
    if text.contains('\0') {
        return Err(Violation::new(field, "must not contain NUL characters"));
    }
    Ok(())
}

/// Checks labels: their number, keys and values.
///
/// # Errors
/// Too many labels, or one whose key or value breaks a rule.
pub fn check_labels<'a>(
    labels: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
    field: &str,
) -> Result<(), Violation> {
    if labels.len() > limits::LABELS {
        return Err(Violation::new(
            field,
            format!("must be at most {} labels", limits::LABELS),
        ));
    }
    for (key, value) in labels {
        check(key, limits::KEY_CHARS - 1)
            .map_err(|problem| Violation::new(field, format!("a key {problem}")))?;
        check_text(value, limits::LINE_CHARS, &format!("{field}[{key}]"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_are_kept_as_they_are() {
        for name in [
            "image.resize",
            "a",
            "0",
            "team/email:v2",
            "A_b-c",
            &"x".repeat(128),
        ] {
            assert_eq!(
                TaskType::parse(name, "f").map(|n| n.to_string()),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused_with_the_field() {
        for name in [
            "",
            " ",
            "-a",
            "a b",
            "ä",
            "a\0",
            "a\n",
            "'; DROP TABLE task; --",
            &"x".repeat(129),
        ] {
            let violation = TaskType::parse(name, "task.task_type").expect_err(name);
            assert_eq!(violation.field, "task.task_type");
        }
    }

    #[test]
    fn a_text_is_measured_in_characters() {
        assert!(check_text(&"ä".repeat(200), 200, "title").is_ok());
        assert!(check_text(&"ä".repeat(201), 200, "title").is_err());
        assert!(check_text("a\0", 200, "title").is_err());
    }
}
