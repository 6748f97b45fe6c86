//! A directory of the run's own for sockets, gone when the run is.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::subject::Failure;

/// A private directory that is removed when this is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Creates the directory, for this user only.
    ///
    /// # Errors
    /// It exists already or cannot be made.
    pub fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| crate::report::naming(&path, &error))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // Nothing can be done about it here, and an empty directory among the temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
