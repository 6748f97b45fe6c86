//! The directory where services are found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::access::Access;
use super::identity::own_uid;
use crate::error::Error;

/// How long somebody else may hold the directory's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What the name of a socket file ends in.
pub const SOCKET_SUFFIX: &str = ".sock";

/// A directory of sockets that belongs to this user, or one of another user's to connect in.
#[derive(Debug)]
pub struct RuntimeDir {
    fd: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// Held while sockets are made or removed; given back by the kernel if the holder dies. No file is left behind,
/// because the directory itself is what is locked.
#[derive(Debug)]
pub(super) struct DirLock {
    fd: OwnedFd,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // By word and not by closing alone: a child that was forked meanwhile has a copy of the descriptor. Should this
        // fail, closing does it.
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
    }
}

fn refused(path: &Path, why: String) -> Error {
    Error::RuntimeDir { dir: path.display().to_string(), why }
}

/// Sorts the system's answer: no room is not the directory's fault.
fn failed<'a>(path: &'a Path, how: &'a str) -> impl FnOnce(Errno) -> Error + 'a {
    move |errno| match Error::of_answer("the runtime directory", 0, errno) {
        Error::System { source, .. } => refused(path, format!("{how}: {source}")),
        exhausted => exhausted,
    }
}

impl RuntimeDir {
    /// Where sockets live if nothing else is said: `$XDG_RUNTIME_DIR/switchboard`, else `switchboard-UID` in the temporary
    /// directory.
    pub fn default_path() -> PathBuf {
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => Path::new(&dir).join("switchboard"),
            None => std::env::temp_dir().join(format!("switchboard-{}", own_uid())),
        }
    }

    /// Opens the directory, making it (mode 0700, with its parents) if it is not there.
    ///
    /// # Errors
    /// [`Error::RuntimeDir`] if it cannot be made, is no directory, belongs to another user, or lets others write.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_for(path, &Access::default())
    }

    /// As [`open`](Self::open), but what has to be made lets those through who may connect.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_for(path: &Path, access: &Access) -> Result<Self, Error> {
        let default = Self::default_path();
        if path.starts_with(&default) {
            // It may lie in a directory in which everybody may write: then somebody else could have made it, or a link.
            Self::open_if(&default, OFlags::NOFOLLOW, access)?;
        }
        Self::open_if(path, OFlags::empty(), access)
    }

    fn open_if(path: &Path, flags: OFlags, access: &Access) -> Result<Self, Error> {
        access.make(path).map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => failed(path, "cannot be made")(errno),
            None => refused(path, format!("cannot be made: {error}")),
        })?;
        let dir = Self::look_at(path, OFlags::RDONLY | flags)?;
        if dir.is_own() {
            return Ok(dir);
        }
        Err(refused(path, format!("belongs to user {}, this process runs as user {}", dir.owner, own_uid())))
    }

    /// Opens the directory to connect in it: our own, made if it is not there, or one of another user's whom
    /// [`vouches_for`](Self::vouches_for) then speaks of.
    ///
    /// # Errors
    /// [`Error::RuntimeDir`] if it cannot be made or passed, is no directory, or lets others than its owner write.
    pub fn open_to_connect(path: &Path) -> Result<Self, Error> {
        // By its path alone: to pass through takes no permission to read.
        match Self::look_at(path, OFlags::PATH) {
            Ok(dir) if !dir.is_own() => Ok(dir),
            _ => Self::open(path),
        }
    }

    fn look_at(path: &Path, flags: OFlags) -> Result<Self, Error> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | flags;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed(path, "cannot be opened"))?;
        let stat = rustix::fs::fstat(&fd).map_err(failed(path, "cannot be examined"))?;
        if stat.st_mode & 0o022 != 0 {
            return Err(refused(path, format!("mode {:o} lets others write", stat.st_mode & 0o7777)));
        }
        Ok(Self { fd, path: path.to_owned(), owner: stat.st_uid })
    }

    /// Whether the directory is this user's.
    pub(super) fn is_own(&self) -> bool {
        self.owner == own_uid()
    }

    /// Whether a process of that user may be taken for who serves here: our own user, the directory's owner, who alone
    /// can put a socket there, and root.
    pub fn vouches_for(&self, uid: u32) -> bool {
        uid == own_uid() || uid == self.owner || uid == 0
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path to a file in the directory that is short whatever the directory's own path is: socket addresses hold
    /// 107 bytes only.
    pub(super) fn short_path(&self, file: &str) -> PathBuf {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.fd);
        PathBuf::from(format!("/proc/self/fd/{fd}/{file}"))
    }

    /// Waits for the directory's lock, at most [`LOCK_PATIENCE`]: honest holders have it for a few system calls, but
    /// whoever may read the directory can hold it.
    pub(super) fn lock(&self) -> Result<DirLock, Error> {
        // A lock belongs to an open file description, so each holder opens its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
            .map_err(Error::system("one more descriptor of the runtime directory"))?;
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DirLock { fd }),
                // The kernel tells nobody when a lock comes free, short of waiting for it without a limit.
                Err(Errno::INTR | Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(errno) => return Err(Error::system("locking the runtime directory")(errno)),
            }
        }
    }

    /// Names of the sockets in it, without [`SOCKET_SUFFIX`], sorted. Some may be left from dead processes.
    ///
    /// # Errors
    /// [`Error::System`] if the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let failed = Error::system("reading the runtime directory");
        let entries = rustix::fs::Dir::read_from(&self.fd).map_err(failed)?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.strip_suffix(SOCKET_SUFFIX).map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fresh directory of a test, gone with the value.
    struct Fresh(PathBuf);

    impl Fresh {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("shm-ring-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Fresh {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_refused_and_so_is_a_file() {
        use std::os::unix::fs::PermissionsExt;

        let fresh = Fresh::new("mode");
        let open = |mode| {
            std::fs::set_permissions(&fresh.0, std::fs::Permissions::from_mode(mode)).unwrap();
            RuntimeDir::open(&fresh.0).is_ok()
        };
        assert_eq!([0o700, 0o755, 0o720, 0o702].map(open), [true, true, false, false]);
        let file = fresh.0.join("file");
        std::fs::write(&file, []).unwrap();
        assert!(matches!(RuntimeDir::open(&file), Err(Error::RuntimeDir { .. })));
        assert!(matches!(RuntimeDir::open_to_connect(&file), Err(Error::RuntimeDir { .. })));
    }

    #[test]
    fn its_owner_root_and_we_are_vouched_for_and_nobody_else() {
        let fresh = Fresh::new("owner");
        let ours = RuntimeDir::open(&fresh.0).unwrap();
        assert!(ours.is_own() && ours.vouches_for(own_uid()));
        let theirs = RuntimeDir { owner: own_uid() + 1, ..ours };
        assert!(!theirs.is_own());
        let vouched = [0, own_uid(), own_uid() + 1, own_uid() + 2].map(|uid| theirs.vouches_for(uid));
        assert_eq!(vouched, [true, true, true, false]);
    }

    #[test]
    fn only_sockets_are_named_in_order_and_without_their_suffix() {
        let fresh = Fresh::new("names");
        for file in ["b.sock", "a@1.sock", "a.lock", "sock"] {
            std::fs::write(fresh.0.join(file), []).unwrap();
        }
        assert_eq!(RuntimeDir::open(&fresh.0).unwrap().names().unwrap(), ["a@1", "b"]);
    }

    #[test]
    fn a_lock_that_somebody_holds_for_a_moment_is_waited_for() {
        let fresh = Fresh::new("moment");
        let dir = RuntimeDir::open(&fresh.0).unwrap();
        let held = dir.lock().unwrap();
        let (tells, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                tells.send(rustix::thread::gettid()).unwrap();
                dir.lock().map(drop)
            });
            let calls = format!("/proc/self/task/{}/syscall", told.recv().unwrap());
            let nap = format!("{} ", libc::SYS_clock_nanosleep);
            // Until it has met the lock, and naps before it looks again.
            while !waits.is_finished() && !std::fs::read_to_string(&calls).unwrap_or_default().starts_with(&nap) {
                std::thread::yield_now();
            }
            drop(held);
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn no_descriptor_of_it_goes_to_programs_that_we_start() {
        let fresh = Fresh::new("exec");
        let closes = |fd: BorrowedFd<'_>| rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC);
        let (ours, passed) =
            (RuntimeDir::open(&fresh.0).unwrap(), RuntimeDir::look_at(&fresh.0, OFlags::PATH).unwrap());
        assert!(closes(ours.fd()) && closes(passed.fd()) && closes(ours.lock().unwrap().fd.as_fd()));
    }

    #[test]
    fn the_lock_is_given_back_though_a_child_has_a_copy_of_it() {
        let fresh = Fresh::new("lock");
        let dir = RuntimeDir::open(&fresh.0).unwrap();
        let lock = dir.lock().unwrap();
        // What a fork of another thread makes at this moment.
        let _copy = lock.fd.try_clone().unwrap();
        drop(lock);
        dir.lock().unwrap();
    }
}
