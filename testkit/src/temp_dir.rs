//! A directory for one test, which only we can enter and which is removed with the value.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io, process};

/// A temporary directory. It is short, since the path of a Unix socket inside has some hundred
/// bytes at most.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates one; `purpose` is a part of its name.
    pub fn new(purpose: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("everlock-{purpose}-{}-{count}", process::id());
            let dir = env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Self(dir),
                // Left behind by a process of the same number: the next count is free.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", dir.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
