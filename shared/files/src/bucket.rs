//! An object store as root.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};

use crate::error::{FileError, FileErrorKind};
use crate::path::FilePath;

/// A store and the prefix that all keys stay below.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Bucket {
    /// Opens a store by URL; credentials and options come from the environment, as in
    /// `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// The URL is malformed, or this build has no such store.
    pub fn open(location: &str) -> Result<Bucket, FileError> {
        let invalid = |why: String| FileError::new(FileErrorKind::PathRefused, format!("files root: {why}"));
        let url = url::Url::parse(location).map_err(|error| invalid(error.to_string()))?;
        // Only these: bare names such as `REGION` mean something else to somebody else.
        let options = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| key.starts_with("AWS_"));
        let (store, prefix) = object_store::parse_url_opts(&url, options)
            .map_err(|error| invalid(format!("scheme `{}`: {error}", url.scheme())))?;
        Ok(Bucket {
            store: Arc::from(store),
            prefix,
        })
    }

    /// Reads a whole object of at most `limit` bytes.
    pub(crate) async fn read(&self, path: &FilePath, limit: u64) -> Result<Bytes, FileError> {
        let fail = |error: Error| failure(path, "read", &error);
        let found = self.store.get(&self.key(path)?).await.map_err(fail)?;
        if found.meta.size > limit {
            return Err(crate::files::too_large(path, found.meta.size, limit));
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(found.meta.size).unwrap_or(0));
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(fail)?);
            // The announced size is the store's word only.
            if bytes.len() as u64 > limit {
                return Err(crate::files::too_large(path, bytes.len() as u64, limit));
            }
        }
        Ok(bytes.freeze())
    }

    /// Puts an object, visible at once and whole.
    pub(crate) async fn write(&self, path: &FilePath, bytes: Bytes) -> Result<(), FileError> {
        self.store
            .put(&self.key(path)?, bytes.into())
            .await
            .map(drop)
            .map_err(|error| failure(path, "write", &error))
    }

    fn key(&self, path: &FilePath) -> Result<Path, FileError> {
        let refuse = |error: object_store::path::Error| {
            FileError::new(
                FileErrorKind::PathRefused,
                format!("{path} is no object key: {error}"),
            )
        };
        let below = Path::parse(path.as_str()).map_err(refuse)?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }
}

fn failure(path: &FilePath, action: &str, error: &Error) -> FileError {
    match error {
        Error::NotFound { .. } => FileError::new(
            FileErrorKind::NotFound,
            format!("{path} does not exist below the files root"),
        ),
        Error::InvalidPath { .. } => {
            FileError::new(FileErrorKind::PathRefused, format!("{path} is no object key"))
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => FileError::new(
            FileErrorKind::PermissionDenied,
            format!("the store does not let this worker {action} {path}"),
        ),
        _ => FileError::new(FileErrorKind::Io, format!("cannot {action} {path}: {error}")),
    }
}
