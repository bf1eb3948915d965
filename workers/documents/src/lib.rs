//! Task types that work on text and image files.
//!
//! | type | module | what it does |
//! |---|---|---|
//! | `dummy_short`, `dummy_long`, `dummy_very_long` | [`dummy`] | sleeps in steps and reports each |
//! | `tokenize` | [`tokenize`] | reads UTF-8 text, writes its BPE tokens as JSON |
//! | `image_process` | [`image_process`] | resizes and converts an image |
//!
//! Paths in parameters are relative to the worker's root, a folder or an object store, and cannot
//! leave it; the crate `tasklease-files` owns that rule. A new task type is one file here and one line
//! of registration in `main.rs`.

pub mod dummy;
pub mod failure;
pub mod image_process;
mod paths;
pub mod tokenize;
