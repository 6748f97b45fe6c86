//! POSIX shared memory through the `shared_memory` crate: the only file that names it.
//!
//! The crate makes an object exclusively, mode 0600, close-on-exec and of an exact size. It does not
//! allocate the memory, set another mode or group, replace a name atomically or tell whether anybody uses an object. That
//! is completed in this folder on the same object, which on Linux is a file in [`DIRECTORY`].

use std::io;

use rustix::io::Errno;
use shared_memory::{ShmemConf, ShmemError};

/// Where the C libraries of Linux keep these objects.
pub(super) const DIRECTORY: &str = "/dev/shm";

/// Makes an object that is not there yet. The crate's own mapping of it, which has no guards, is removed untouched: the
/// object is opened and mapped as any other file.
pub(super) fn create(name: &str, bytes: usize) -> Result<(), Errno> {
    let mut object = ShmemConf::new().os_id(name).size(bytes).create().map_err(errno)?;
    // An owner would remove whatever stands under the name when it goes.
    object.set_owner(false);
    Ok(())
}

fn errno(error: ShmemError) -> Errno {
    match error {
        ShmemError::MappingIdExists => Errno::EXIST,
        ShmemError::MapCreateFailed(code) | ShmemError::MapOpenFailed(code) | ShmemError::UnknownOsError(code) => {
            Errno::from_io_error(&io::Error::from_raw_os_error(code as i32)).unwrap_or(Errno::IO)
        }
        // The rest is about links in the file system, which are not used, and sizes of zero, which no layout has.
        _ => Errno::INVAL,
    }
}
