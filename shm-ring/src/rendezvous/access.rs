//! Which other users may connect: mode and group of a socket's file, and of the directories made for it.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode};

use super::directory::RuntimeDir;
use crate::error::Error;

/// Who may connect to a socket besides its own user, in terms of its file. By default nobody.
///
/// To connect takes write permission for the file and search permission for every directory on the way. Directories that
/// are made for it let the same users through; those that are there already stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    mode: Option<u32>,
    group: Option<u32>,
}

impl Access {
    /// Permission bits of the file, such as `0o660` for its group or `0o666` for every user. Only the lowest nine bits
    /// count, and the user's own `0o600` are always there.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode: Some(mode & 0o777 | 0o600), ..self }
    }

    /// The group that the file is given: one of the process's own, unless it may do everything.
    #[must_use]
    pub fn group(self, gid: u32) -> Self {
        Self { group: Some(gid), ..self }
    }

    /// Whether users other than the socket's own may come.
    pub fn lets_others_in(&self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o022 != 0)
    }

    /// Gives a socket's file its mode and group, before anybody is listened to there.
    pub(super) fn apply_to(&self, dir: &RuntimeDir, file: &str) -> Result<(), Error> {
        if let Some(gid) = self.group {
            rustix::fs::chownat(dir.fd(), file, None, Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Error::system("giving a socket its group"))?;
        }
        if let Some(mode) = self.mode {
            rustix::fs::chmodat(dir.fd(), file, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(Error::system("giving a socket its mode"))?;
        }
        Ok(())
    }

    /// Makes a directory with its parents, as far as they are missing: for its user alone to write, and with the
    /// permission to pass for those who may connect.
    pub(super) fn make(&self, path: &Path) -> std::io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            match std::fs::DirBuilder::new().mode(0o700).create(path) {
                Ok(()) => {}
                // Somebody else has made it meanwhile, and decided who may pass.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            if self.group.is_some() {
                chown(path, None, self.group)?;
            }
            if let Some(mode) = self.mode {
                let pass = |who: u32| if mode >> who & 0o2 != 0 { 0o1 << who } else { 0 };
                // Said again, because the process's mask has its way with the mode of what is made.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700 | pass(3) | pass(0)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_made_and_lets_through_who_may_connect() {
        let top = std::env::temp_dir().join(format!("shm-ring-{}-access", std::process::id()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        Access::default().make(&top).unwrap();
        Access::default().mode(0o660).make(&top.join("group/deep")).unwrap();
        Access::default().mode(0o666).make(&top.join("all")).unwrap();
        Access::default().mode(0o606).make(&top.join("others/deep")).unwrap();
        let modes = ["", "group", "group/deep", "all", "others", "others/deep"].map(|path| mode(&top.join(path)));
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(modes, [0o700, 0o710, 0o710, 0o711, 0o701, 0o701]);
    }

    #[test]
    fn the_lowest_nine_bits_count_and_the_user_keeps_its_own() {
        for mode in [0o060, 0o660, 0o7260] {
            assert_eq!(Access::default().mode(mode), Access { mode: Some(mode & 0o060 | 0o600), group: None });
        }
        let of_group = Access::default().mode(0o660).group(7);
        assert_eq!(of_group, Access { mode: Some(0o660), group: Some(7) });
        assert_eq!(Access::default().group(7).mode(0o660), of_group);
    }

    #[test]
    fn what_stands_there_is_left_and_what_cannot_be_made_is_an_error() {
        let top = std::env::temp_dir().join(format!("shm-ring-{}-left", std::process::id()));
        Access::default().make(&top).unwrap();
        // A link that leads nowhere, and a file where a directory would have to be.
        std::os::unix::fs::symlink("nowhere", top.join("link")).unwrap();
        std::fs::write(top.join("file"), []).unwrap();
        let outcomes = ["link", "file", "file/below"].map(|path| Access::default().make(&top.join(path)).is_ok());
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(outcomes, [true, true, false]);
    }

    #[test]
    fn others_are_let_in_by_a_mode_that_lets_them_write() {
        assert!(!Access::default().lets_others_in());
        assert!(!Access::default().mode(0o644).lets_others_in());
        assert!(Access::default().mode(0o660).lets_others_in() && Access::default().mode(0o602).lets_others_in());
    }
}
