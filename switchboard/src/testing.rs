//! For tests of one's own services: a switchboard that nobody else sees, and services in processes that can be killed.
//!
//! ```
//! use switchboard::prelude::*;
//! use switchboard::testing::TestBoard;
//!
//! #[service]
//! pub trait Adder {
//!     fn add(&self, ctx: &Context<'_>, a: i64, b: i64) -> Result<i64, Status>;
//! }
//!
//! struct Plain;
//!
//! impl Adder for Plain {
//!     fn add(&self, _: &Context<'_>, a: i64, b: i64) -> Result<i64, Status> {
//!         a.checked_add(b).ok_or_else(|| Status::out_of_range("the sum has more than 63 bits"))
//!     }
//! }
//!
//! # fn main() -> Result<(), Status> {
//! let board = TestBoard::new()?;
//! let _running = board.serve("test.adder", AdderServer::new(Plain)).start()?;
//! let adder = AdderClient::connect(&*board, "test.adder")?;
//! assert_eq!(adder.add(2, 3)?, 5);
//! assert_eq!(adder.add(i64::MAX, 1).unwrap_err().code(), Code::OutOfRange);
//! # Ok(())
//! # }
//! ```

use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use service_core::{Code, Outcome, Status};
use service_local::RunningService;

use crate::{Builder, Switchboard};

/// Tells a process of a test that it is to serve, and where.
const SERVE_IN: &str = "SWITCHBOARD_TEST_SERVE_IN";

/// What a serving process says when it can be called. Test programs print lines of their own before it.
const READY: &str = "switchboard test service is ready";

/// A [`Switchboard`] with a runtime directory of its own, which is removed with it.
#[derive(Debug)]
pub struct TestBoard {
    board: Switchboard,
    dir: Directory,
}

impl TestBoard {
    /// One that reaches services as a program's own switchboard does: those of this process directly.
    ///
    /// # Errors
    /// `FailedPrecondition` if no directory can be made in the temporary directory.
    pub fn new() -> Result<Self, Status> {
        Self::with(|builder| builder)
    }

    /// One that reaches even services of this process by socket and shared memory, as those of other processes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn through_shared_memory() -> Result<Self, Status> {
        Self::with(|builder| builder.in_process(false))
    }

    /// One with other settings.
    ///
    /// # Errors
    /// As [`new`](Self::new), and what the settings are refused for.
    pub fn with(settings: impl FnOnce(Builder) -> Builder) -> Result<Self, Status> {
        let dir = Directory::new().map_err(|error| {
            let text = format!("no directory for a test in {}: {error}", std::env::temp_dir().display());
            Status::new(Code::FailedPrecondition, Outcome::NotRun, text)
        })?;
        let board = settings(Switchboard::builder().runtime_dir(&dir.0)).open()?;
        Ok(Self { board, dir })
    }

    /// Its runtime directory.
    pub fn runtime_dir(&self) -> &Path {
        &self.dir.0
    }

    /// Starts the same test program once more, to run one test only, by its full name such as `tests::my_service_survives`.
    /// That test begins with [`serve_if_asked`], which serves and does not return. Waits until the service can be called.
    ///
    /// # Errors
    /// `Unavailable` if the process ended before it served, for example because there is no test of that name.
    pub fn process(&self, test: &str) -> Result<ServiceProcess, Status> {
        let start = || {
            let mut child = Command::new(std::env::current_exe()?)
                .args([test, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"])
                .env(SERVE_IN, &self.dir.0)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take().map(BufReader::new);
            let process = ServiceProcess { child };
            for line in output.into_iter().flat_map(BufReader::lines) {
                if line?.contains(READY) {
                    return Ok(process);
                }
            }
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it served"))
        };
        start().map_err(|error| {
            let text = format!("the process for `{test}` does not serve: {error}");
            Status::new(Code::Unavailable, Outcome::NotRun, text)
        })
    }
}

impl Deref for TestBoard {
    type Target = Switchboard;

    fn deref(&self) -> &Switchboard {
        &self.board
    }
}

/// Serves and ends the process when its parent wants it, if this is a process that [`TestBoard::process`] started;
/// otherwise does nothing. To be called first in the test that names it.
///
/// # Panics
/// In such a process, if `serve` fails: the test that started it is told that it does not serve.
pub fn serve_if_asked(serve: impl FnOnce(&Switchboard) -> Result<RunningService, Status>) {
    let Some(dir) = std::env::var_os(SERVE_IN) else { return };
    let board = Switchboard::builder().runtime_dir(dir).open().expect("the directory of the test");
    let running = serve(&board).expect("the service of the test");
    println!("{READY}");
    // Until the parent closes its end, or dies.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    running.stop();
    std::process::exit(0);
}

/// A service in a process of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct ServiceProcess {
    child: Child,
}

impl ServiceProcess {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Lets it stop in order, and waits for its end. Says whether it ended well.
    pub fn stop(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().is_ok_and(|status| status.success())
    }

    fn end(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// A new directory that only this user may enter.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("switchboard-test-{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Left by an earlier process of this number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Services that still run keep theirs open; what is left is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
