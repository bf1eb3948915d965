//! The vocabularies, and text to tokens.

use std::str::FromStr;

use serde::Serialize;
use tasklease_worker::{StopFlag, TaskResult};

use crate::failure::{Failure, Kind};

/// A BPE vocabulary with its pre-tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 100,000 tokens.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
    /// 200,000 tokens.
    #[serde(rename = "o200k_base")]
    O200kBase,
}

impl FromStr for Encoding {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Encoding, Failure> {
        match name {
            "cl100k_base" => Ok(Encoding::Cl100kBase),
            "o200k_base" => Ok(Encoding::O200kBase),
            _ => Err(Failure::new(
                Kind::UnknownEncoding,
                format!("field `encoding`: {name:?} is unknown; use `cl100k_base` or `o200k_base`"),
            )),
        }
    }
}

/// Encodes text; a special token such as `<|endoftext|>` in it is plain text.
///
/// # Errors
/// The flag went up meanwhile.
pub fn encode(encoding: Encoding, text: &str, stop: &StopFlag) -> TaskResult<Vec<u32>> {
    let tokenizer = match encoding {
        Encoding::Cl100kBase => bpe_openai::cl100k_base(),
        Encoding::O200kBase => bpe_openai::o200k_base(),
    };
    // English text has about four bytes per token.
    let mut tokens = Vec::with_capacity(text.len() / 4);
    // Piece by piece instead of in one call, so that a cancel is seen between two of them. Neither
    // vocabulary normalizes its input, hence the pieces together are the whole text.
    for piece in tokenizer.split(text) {
        stop.check()?;
        tokens.extend(tokenizer.bpe.encode_via_backtracking(piece.as_bytes()));
    }
    Ok(tokens)
}
