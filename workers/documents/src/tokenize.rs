//! `tokenize`: reads a UTF-8 file and writes its BPE tokens as JSON.

mod encoding;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasklease_worker::{Context, Task, TaskError, TaskResult};

pub use encoding::{Encoding, encode};

use crate::failure::{Failure, Kind};
use crate::paths::input_and_output;
use tasklease_files::{FilePath, Files};

/// Reported steps of the simulated work.
const SIMULATED_STEPS: u32 = 12;
/// Longest simulated work, one day in seconds.
const MAX_SLEEP_SECONDS: f64 = 86_400.0;

/// What the caller chose.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The text to read, relative to the root.
    #[serde(alias = "input_file_path")]
    pub input_file: Option<String>,
    /// Where the JSON goes, relative to the root.
    #[serde(alias = "output_file_path")]
    pub output_file: Option<String>,
    /// The vocabulary, `cl100k_base` or `o200k_base`.
    pub encoding: String,
    /// Seconds of simulated work, 0 to 86,400.
    pub sleep_duration: f64,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            input_file: None,
            output_file: None,
            encoding: "cl100k_base".to_owned(),
            sleep_duration: 60.0,
        }
    }
}

/// What the task returns; the tokens themselves are in the file only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The text that was read.
    pub input_file: String,
    /// The JSON that was written.
    pub output_file: String,
    /// Characters (Unicode scalar values) of the text.
    pub char_count: usize,
    pub token_count: usize,
    pub encoding: Encoding,
}

/// The file that the task writes.
#[derive(Serialize)]
struct Document<'a> {
    input_file: &'a str,
    char_count: usize,
    token_count: usize,
    tokens: &'a [u32],
    encoding: Encoding,
}

/// A checked request.
#[derive(Debug)]
struct Request {
    input: FilePath,
    output: FilePath,
    encoding: Encoding,
    sleep: Duration,
}

impl Request {
    fn check(params: &Params) -> TaskResult<Request> {
        let (input, output) = input_and_output(params.input_file.as_deref(), params.output_file.as_deref())?;
        let seconds = params.sleep_duration;
        if !(0.0..=MAX_SLEEP_SECONDS).contains(&seconds) {
            return Err(Failure::new(
                Kind::InvalidParameter,
                format!("field `sleep_duration`: {seconds} is not between 0 and {MAX_SLEEP_SECONDS} seconds"),
            )
            .into());
        }
        Ok(Request {
            input,
            output,
            encoding: params.encoding.parse()?,
            sleep: Duration::from_secs_f64(seconds),
        })
    }
}

/// Reads, encodes and writes one file.
///
/// # Errors
/// Bad parameters, a file that cannot be read as UTF-8 or written, or the run was told to stop;
/// then nothing is written.
pub async fn tokenize_file(files: &Files, params: &Params, ctx: &Context) -> TaskResult<Output> {
    let request = Request::check(params)?;
    ctx.check_cancelled()?;
    ctx.update_progress(10.0, "Reading the input");
    let bytes = ctx.unless_stopped(files.read(&request.input)).await??;
    let text: Arc<str> = text_of(&request.input, &bytes)?.into();
    drop(bytes);

    ctx.check_cancelled()?;
    ctx.update_progress(20.0, "Processing");
    for step in 1..=SIMULATED_STEPS {
        ctx.sleep(request.sleep / SIMULATED_STEPS).await?;
        ctx.check_cancelled()?;
        let percent = 20.0 + 5.0 * f64::from(step);
        ctx.update_progress(percent, format!("Processing, step {step} of {SIMULATED_STEPS}"));
    }

    ctx.update_progress(85.0, "Encoding");
    let encoding = request.encoding;
    let (char_count, tokens) = ctx
        .interruptible(move |stop| Ok((text.chars().count(), encode(encoding, &text, stop)?)))
        .await?;

    ctx.check_cancelled()?;
    ctx.update_progress(95.0, "Writing the output");
    let token_count = tokens.len();
    let input_file = request.input.as_str().to_owned();
    let staged = files.stage(&request.output, ctx.into(), move |out| {
        let document = Document {
            input_file: &input_file,
            char_count,
            token_count,
            tokens: &tokens,
            encoding,
        };
        serde_json::to_writer(out, &document).map_err(std::io::Error::from)
    });
    let staged = ctx.unless_stopped(staged).await??;
    // The last moment at which a cancel leaves no trace; the rename below is the point of no return.
    ctx.check_cancelled()?;
    staged.commit().await?;
    Ok(Output {
        input_file: request.input.as_str().to_owned(),
        output_file: request.output.as_str().to_owned(),
        char_count,
        token_count,
        encoding,
    })
}

fn text_of<'a>(path: &FilePath, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|error| {
        Failure::new(
            Kind::InvalidUtf8,
            format!(
                "{path} is not UTF-8 text: byte {} is invalid; convert the file first",
                error.valid_up_to()
            ),
        )
    })
}

/// The task type `tokenize`.
pub struct Tokenize {
    files: Files,
}

impl Tokenize {
    /// Works on the given files.
    pub fn new(files: Files) -> Tokenize {
        Tokenize { files }
    }
}

impl Task for Tokenize {
    const TYPE: &'static str = "tokenize";
    type Params = Params;
    type Output = Output;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Output> {
        tokenize_file(&self.files, &params, ctx).await
    }
}
