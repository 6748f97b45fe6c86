//! Standing in for the compiler, so that only the crates under test are built anew for a weakened twin.
//!
//! A twin is the product with one ordering or fence weakened by `--cfg weaken="NAME"`. In `RUSTFLAGS` that flag would
//! rebuild every dependency for every twin. So this program is copied to a place of its own and named to cargo as the
//! compiler of the workspace's members; there it adds the flag and becomes the real compiler.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Holds the name of the twin while a copy of this program stands in for the compiler.
pub const VARIABLE: &str = "XTASK_WEAKEN";

/// Becomes the compiler with one more flag, if the environment says so; else returns `None` and does nothing.
pub fn run_as_compiler() -> Option<ExitCode> {
    let twin = std::env::var(VARIABLE).ok()?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments.next()?;
    let error = Command::new(&compiler).args(arguments).arg("--cfg").arg(format!("weaken=\"{twin}\"")).exec();
    eprintln!("{} cannot be started: {error}", compiler.display());
    Some(ExitCode::FAILURE)
}

/// Copies this program into `directory`, for cargo to call as the compiler.
///
/// # Errors
/// The copy cannot be written.
pub fn install(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let copy = directory.join("weakened-rustc");
    // Through /proc: the suites before this one may have replaced the file that was started.
    fs::copy("/proc/self/exe", &copy)?;
    Ok(copy)
}
