//! Standard output, in the form that was asked for.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;
use crate::json::{Layout, Named, to_json};

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Tables and lines for people.
    #[default]
    Table,
    /// Canonical proto JSON of the response message for programs.
    Json,
}

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// A terminal shows it, and `NO_COLOR` is not set.
    On,
    /// It goes to a file or program, or the user does not want colours.
    Off,
}

/// Standard output, in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    format: OutputFormat,
    colour: Colour,
}

impl Screen {
    /// Looks at where standard output goes.
    pub(crate) fn new(format: OutputFormat) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = if io::stdout().is_terminal() && !unwanted {
            Colour::On
        } else {
            Colour::Off
        };
        Self { format, colour }
    }

    /// The form that was asked for.
    pub(crate) fn format(&self) -> OutputFormat {
        self.format
    }

    pub(crate) fn colour(&self) -> Colour {
        self.colour
    }

    /// Shows a response: as JSON, or as the text that `describe` makes of it.
    pub(crate) fn show<M: Named>(
        &self,
        response: &M,
        describe: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Json => self.line(&to_json(response, Layout::Pretty)?),
            OutputFormat::Table => self.line(&describe(response)),
        }
    }

    /// Writes one line, or several, and sends it off.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}
