//! The two paths that every task on files has.

use tasklease_files::FilePath;
use tasklease_worker::TaskResult;

use crate::failure::{Failure, Kind};

/// Checks where a task reads and writes.
///
/// # Errors
/// One is missing or refused, or both are the same: a second run would then read its own output.
pub(crate) fn input_and_output(
    input: Option<&str>,
    output: Option<&str>,
) -> TaskResult<(FilePath, FilePath)> {
    let input = required("input_file", input)?;
    let output = required("output_file", output)?;
    if input == output {
        let message = format!("field `output_file`: {output} is the input file as well; choose another path");
        return Err(Failure::new(Kind::InvalidParameter, message).into());
    }
    Ok((input, output))
}

fn required(field: &str, text: Option<&str>) -> TaskResult<FilePath> {
    match text {
        Some(text) => Ok(FilePath::parse(field, text)?),
        None => {
            let message = format!("field `{field}` is missing; give a path relative to the files root");
            Err(Failure::new(Kind::InvalidParameter, message).into())
        }
    }
}
