//! Libraries that are preloaded into `redis-server`, to put things between it and the kernel that
//! no test could do to a real machine.
//!
//! They are C, built by the compiler that Rust links with, when they are first needed, and kept
//! beside the test program for the next one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// One such library.
#[derive(Debug)]
pub(super) struct Shim {
    name: &'static str,
    source: &'static str,
    built: OnceLock<PathBuf>,
}

/// Throws the wall clock; reads the offset from the file that `TESTKIT_CLOCK` names.
pub(super) static CLOCK: Shim = Shim::new("clock", include_str!("clock.c"));

/// Notes in the directory that `TESTKIT_SYNCED` names how much of the append-only file is synced.
pub(super) static DISK: Shim = Shim::new("disk", include_str!("disk.c"));

impl Shim {
    const fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            built: OnceLock::new(),
        }
    }

    /// The library's file, built if need be.
    pub(super) fn library(&self) -> &Path {
        self.built.get_or_init(|| self.build())
    }

    /// Test programs that build it at once end with one and the same file: each renames its own,
    /// complete one into place, and one that is loaded already is not touched.
    fn build(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.source.hash(&mut hasher);
        let program = env::current_exe().expect("a running program has a path");
        let folder = program.parent().expect("a program is in a directory");
        let name = format!("testkit-{}-{:016x}", self.name, hasher.finish());
        let library = folder.join(format!("{name}.so"));
        if library.exists() {
            return library;
        }
        let fresh = folder.join(format!("{name}.{}.so", process::id()));
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
            .arg(&fresh)
            .args(["-x", "c", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a C compiler, since Rust links with it");
        let mut source = compiler.stdin.take().expect("its input is a pipe");
        source
            .write_all(self.source.as_bytes())
            .expect("the compiler reads its input");
        drop(source);
        let status = compiler.wait().expect("our own child can be waited for");
        assert!(status.success(), "{} is not compiled: {status}", self.name);
        fs::rename(&fresh, &library).expect("a file can be renamed within its directory");
        library
    }
}
