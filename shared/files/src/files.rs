//! Reads and writes below the root of a worker, whichever kind it is.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    bucket::Bucket,
    error::{FileError, FileErrorKind},
    folder::{Folder, StagedFile},
    path::FilePath,
    run_name::RunName,
};

/// The root of a worker, cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    root: Root,
    max_input_bytes: u64,
}

#[derive(Debug, Clone)]
enum Root {
    Folder(Arc<Folder>),
    Bucket(Bucket),
}

impl Files {
    /// Opens a root: a folder, or a URL such as `file:///srv/files` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// The folder does not exist, or the URL names no known store.
    pub fn open(location: &str, max_input_bytes: u64) -> Result<Files, FileError> {
        let root = match location.split_once("://") {
            None => Root::Folder(Arc::new(Folder::open(location.as_ref())?)),
            Some(("file", path)) => Root::Folder(Arc::new(Folder::open(path.as_ref())?)),
            Some(_) => Root::Bucket(Bucket::open(location)?),
        };
        Ok(Files {
            root,
            max_input_bytes,
        })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// No such file, not a regular file, larger than the worker accepts, or unreadable.
    pub async fn read(&self, path: &FilePath) -> Result<Bytes, FileError> {
        match &self.root {
            Root::Bucket(bucket) => bucket.read(path, self.max_input_bytes).await,
            Root::Folder(folder) => {
                let (folder, path, limit) = (folder.clone(), path.clone(), self.max_input_bytes);
                off_thread(move || folder.read(&path, limit))
                    .await
                    .map(Bytes::from)
            }
        }
    }

    /// Writes a new version of a file beside its target, parents included.
    ///
    /// # Errors
    /// The path cannot be a regular file below the root, or writing failed.
    pub async fn stage(
        &self,
        path: &FilePath,
        run: RunName,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Result<Staged, FileError> {
        let path = path.clone();
        match &self.root {
            Root::Folder(folder) => {
                let folder = folder.clone();
                off_thread(move || folder.stage(&path, &run, content))
                    .await
                    .map(Staged::File)
            }
            Root::Bucket(bucket) => {
                let collect = move || {
                    let mut bytes = Vec::new();
                    content(&mut bytes).map_err(|error| {
                        FileError::new(FileErrorKind::Io, format!("cannot prepare output: {error}"))
                    })?;
                    Ok(bytes)
                };
                let bytes = off_thread(collect).await?;
                Ok(Staged::Object(bucket.clone(), path, Bytes::from(bytes)))
            }
        }
    }
}

/// A written file that nobody sees yet; dropped without a commit, it vanishes.
#[must_use = "a staged file vanishes unless it is committed"]
#[derive(Debug)]
pub enum Staged {
    /// A temporary file in the target's folder.
    File(StagedFile),
    /// Bytes held back from a store, whose puts are atomic by themselves.
    Object(Bucket, FilePath, Bytes),
}

impl Staged {
    /// Makes the file visible in one step, in place of an older version.
    ///
    /// # Errors
    /// The rename or the upload failed; the older version stays.
    pub async fn commit(self) -> Result<(), FileError> {
        match self {
            Staged::File(staged) => off_thread(move || staged.commit()).await,
            Staged::Object(bucket, path, bytes) => bucket.write(&path, bytes).await,
        }
    }
}

/// Runs file system calls where they may block.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work.
            Err(_) => Err(FileError::new(FileErrorKind::Io, "the worker is shutting down")),
        },
    }
}

pub(crate) fn too_large(path: &FilePath, size: u64, limit: u64) -> FileError {
    FileError::new(
        FileErrorKind::TooLarge,
        format!("{path} has {size} bytes or more, the worker accepts {limit}"),
    )
}
