//! The files that a worker's tasks may touch: everything below one root, nothing outside it.
//!
//! A worker opens its root once, a folder or an object store. A task names files by paths relative
//! to that root, reads them whole, and writes a new version beside the old one, which becomes visible
//! in one step or not at all.
//!
//! ```
//! use tasklease_files::{FilePath, Files};
//! use tasklease_worker::{Context, Task, TaskError, TaskResult};
//!
//! struct Upper {
//!     files: Files,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Params {
//!     from: String,
//!     to: String,
//! }
//!
//! impl Task for Upper {
//!     const TYPE: &'static str = "upper";
//!     type Params = Params;
//!     type Output = usize;
//!     type Error = TaskError;
//!
//!     async fn run(&self, params: Params, ctx: &Context) -> TaskResult<usize> {
//!         let from = FilePath::parse("from", &params.from)?;
//!         let to = FilePath::parse("to", &params.to)?;
//!         let text = ctx.unless_stopped(self.files.read(&from)).await??;
//!         let text = text.to_ascii_uppercase();
//!         let bytes = text.len();
//!         let staged = self.files.stage(&to, ctx.into(), move |out| out.write_all(&text));
//!         let staged = ctx.unless_stopped(staged).await??;
//!         // The last moment at which a cancel leaves no trace.
//!         ctx.check_cancelled()?;
//!         staged.commit().await?;
//!         Ok(bytes)
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # use serde_json::json;
//! # let root = tempfile::tempdir().unwrap();
//! # std::fs::write(root.path().join("a.txt"), "hello").unwrap();
//! # let files = Files::open(root.path().to_str().unwrap(), 1_000).unwrap();
//! # let run = tasklease_worker::testing::TestRun::new(Upper { files });
//! # let outcome = run.run(json!({ "from": "a.txt", "to": "new/b.txt" })).await;
//! # assert_eq!(outcome.result(), Some(&json!({ "value": 5 })));
//! # assert_eq!(std::fs::read(root.path().join("new/b.txt")).unwrap(), b"HELLO");
//! # }
//! ```
//!
//! # What is kept
//!
//! - **Nothing outside the root is touched.** A [`FilePath`] has no `..` and is not absolute. A
//!   [`Folder`] is walked one name at a time from its descriptor, and no symbolic link below it is
//!   followed, so there is no moment in which somebody could swap a folder for a link.
//! - **Only regular files are read or replaced**, no devices, pipes or sockets.
//! - **Reads are bounded**: a file that is larger than the worker accepts is refused before it is in
//!   memory.
//! - **A run that was given up for dead cannot overwrite the file of a later one** in a folder: each
//!   run has a temporary file of its own, named by the task and its lease token, and a later run
//!   removes those of earlier ones.
//!
//! # Roots
//!
//! | location | root |
//! |---|---|
//! | `./files`, `/srv/files`, `file:///srv/files` | a folder that exists |
//! | `s3://bucket/prefix` (feature `aws`), `memory:///` | an object store |
//!
//! # Errors
//!
//! A [`FileError`] has a stable kind, such as `FILE_NOT_FOUND`, and becomes a
//! [`TaskError`](tasklease_worker::TaskError) of that kind with `?`. Only `IO_ERROR` is worth another
//! attempt.

#![warn(missing_docs)]

mod bucket;
mod error;
mod files;
mod folder;
mod path;
mod run_name;

pub use bucket::Bucket;
pub use error::{FileError, FileErrorKind};
pub use files::{Files, Staged};
pub use folder::{Folder, StagedFile};
pub use path::FilePath;
pub use run_name::RunName;
