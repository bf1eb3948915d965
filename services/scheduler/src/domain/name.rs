//! Names that people choose.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

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
fn check(name: &str, longest: usize) -> Result<(), String> {
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
pub fn text(text: String, longest: usize, field: &str) -> Result<String, Violation> {
    check_text(&text, longest, field)?;
    Ok(text)
}

/// As [`text`], where an empty text means none.
///
/// # Errors
/// Those of [`text`].
pub fn optional_text(text: String, longest: usize, field: &str) -> Result<Option<String>, Violation> {
    check_text(&text, longest, field)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn check_text(text: &str, longest: usize, field: &str) -> Result<(), Violation> {
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
/// Too many labels, or all of those whose key or value breaks a rule.
pub fn labels(
    labels: HashMap<String, String>,
    field: &str,
) -> Result<BTreeMap<String, String>, Vec<Violation>> {
    if labels.len() > limits::LABELS {
        let problem = format!("must be at most {} labels, got {}", limits::LABELS, labels.len());
        return Err(vec![Violation::new(field, problem)]);
    }
    let mut broken = Vec::new();
    for (key, value) in &labels {
        if let Err(problem) = check(key, limits::LABEL_KEY_CHARS) {
            broken.push(Violation::new(field, format!("a key {problem}")));
        } else {
            broken.extend(check_text(value, limits::LINE_CHARS, &format!("{field}[{key}]")).err());
        }
    }
    if broken.is_empty() {
        Ok(labels.into_iter().collect())
    } else {
        Err(broken)
    }
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
        assert!(text("ä".repeat(200), 200, "title").is_ok());
        assert!(text("ä".repeat(201), 200, "title").is_err());
        assert!(text("a\0".into(), 200, "title").is_err());
        assert_eq!(optional_text(String::new(), 200, "title"), Ok(None));
    }

    #[test]
    fn every_label_that_breaks_a_rule_is_named() {
        let given = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()));
            labels(owned.collect(), "labels")
        };
        assert!(given(&[("team", "a"), (&"k".repeat(63), &"ä".repeat(200))]).is_ok());
        let broken = given(&[("a b", "v"), ("team", "\0"), ("size", &"x".repeat(201))]);
        let mut fields: Vec<_> = broken
            .expect_err("three are wrong")
            .into_iter()
            .map(|v| v.field)
            .collect();
        fields.sort();
        assert_eq!(fields, ["labels", "labels[size]", "labels[team]"]);
        let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(labels(many, "labels").expect_err("too many").len(), 1);
    }
}
