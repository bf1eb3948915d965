//! The names of log levels, as people and the database write them.

use crate::v1::LogLevel;

/// Levels with their names.
const NAMES: [(LogLevel, &str); 5] = [
    (LogLevel::Trace, "trace"),
    (LogLevel::Debug, "debug"),
    (LogLevel::Info, "info"),
    (LogLevel::Warn, "warn"),
    (LogLevel::Error, "error"),
];

impl LogLevel {
    /// The level's name in lower case; empty for `LOG_LEVEL_UNSPECIFIED`.
    pub fn name(self) -> &'static str {
        let named = NAMES.into_iter().find(|(level, _)| *level == self);
        named.map_or("", |(_, name)| name)
    }

    /// The level of this name; `LOG_LEVEL_UNSPECIFIED` for every other text.
    pub fn from_name(name: &str) -> Self {
        let level = NAMES.into_iter().find(|(_, known)| *known == name);
        level.map_or(Self::Unspecified, |(level, _)| level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_but_the_unspecified_one_has_a_name_of_its_own() {
        for number in 1..=5 {
            let level = LogLevel::try_from(number).expect("a level");
            assert_eq!(LogLevel::from_name(level.name()), level);
            assert!(!level.name().is_empty());
        }
        assert_eq!(LogLevel::Unspecified.name(), "");
        assert_eq!(LogLevel::from_name("loud"), LogLevel::Unspecified);
        assert!(LogLevel::try_from(6).is_err(), "a new level needs a name");
    }
}
