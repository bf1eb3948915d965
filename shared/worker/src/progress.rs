//! Progress as a task's code reports it.

use tasklease_proto::{json, limits, text, v1};

/// A progress report; fields that are not set are unknown or empty.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    percent: Option<f64>,
    message: String,
    heading: String,
    body: String,
    image: String,
    detail: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Progress {
    /// A report whose percentage is unknown.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A report of a percentage; values outside 0 to 100 are moved to the nearer end.
    pub fn percent(percent: f64) -> Self {
        let percent = (!percent.is_nan()).then_some(percent.clamp(0.0, 100.0));
        Self {
            percent,
            ..Self::default()
        }
    }

    /// One line for people, cut at 1,000 characters.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The title of the task's card, cut at 200 characters.
    #[must_use]
    pub fn heading(mut self, heading: impl Into<String>) -> Self {
        self.heading = heading.into();
        self
    }

    /// The text of the task's card, cut at 10,000 characters.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// The image of the task's card: an http(s) or data URL of at most 65,536 characters; others
    /// are left out.
    #[must_use]
    pub fn image(mut self, url: impl Into<String>) -> Self {
        self.image = url.into();
        self
    }

    /// Anything else, at most 64 KiB as JSON text; larger is left out.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Map<String, serde_json::Value>) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The report cut to the limits of the contract, so that no report can make a run fail.
    pub(crate) fn into_wire(self) -> v1::Progress {
        let has_scheme = ["http://", "https://", "data:"]
            .iter()
            .any(|scheme| self.image.starts_with(scheme));
        let fits = self.image.chars().take(limits::IMAGE_CHARS + 1).count() <= limits::IMAGE_CHARS;
        let is_clean = !self.image.contains(char::is_control);
        v1::Progress {
            percent: self.percent,
            message: text::line(&self.message, limits::MESSAGE_CHARS),
            heading: text::line(&self.heading, limits::LINE_CHARS),
            body: text::lines(&self.body, limits::TEXT_CHARS),
            image: if has_scheme && fits && is_clean {
                self.image
            } else {
                String::new()
            },
            detail: self.detail.and_then(|detail| {
                let detail = json::struct_from_map(detail);
                json::struct_to_json(&detail)
                    .ok()
                    .filter(|text| text.len() <= limits::PROGRESS_DETAIL_BYTES)?;
                Some(detail)
            }),
            update_time: None,
            worker_time: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_reports_are_brought_within_the_limits() {
        assert_eq!(Progress::percent(f64::NAN).into_wire().percent, None);
        assert_eq!(Progress::percent(250.0).into_wire().percent, Some(100.0));
        assert_eq!(
            Progress::percent(f64::NEG_INFINITY).into_wire().percent,
            Some(0.0)
        );
        let detail = [(
            "blob".to_owned(),
            "x".repeat(limits::PROGRESS_DETAIL_BYTES).into(),
        )]
        .into_iter()
        .collect();
        let wire = Progress::unknown()
            .image("javascript:x")
            .detail(detail)
            .body("a\n\0")
            .into_wire();
        assert_eq!(
            (wire.image.as_str(), wire.detail, wire.body.as_str()),
            ("", None, "a\n\u{fffd}")
        );
    }
}
