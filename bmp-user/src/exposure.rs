//! Finds paths that another user can change. Root may rely only on paths that root alone controls.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::sys;

/// Write permission of group and others (`S_IWGRP | S_IWOTH`).
const WRITABLE: u32 = 0o022;

/// The sticky bit (`S_ISVTX`) of a folder that all users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// A path that another user can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExposedPath {
    /// The part of the path with the fault.
    pub(crate) place: PathBuf,
    /// The fault of that part.
    pub(crate) fault: PathFault,
}

/// How another user can change a part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathFault {
    /// The part is a symbolic link.
    Link,
    /// Another user, with this user id, owns the part.
    Owner(u32),
    /// Other users can write to the part, which has this mode.
    Writable(u32),
    /// The part is neither a folder nor a symbolic link.
    NoFolder,
}

impl fmt::Display for ExposedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.place.display())?;
        match self.fault {
            PathFault::Link => f.write_str("is a symbolic link"),
            PathFault::Owner(uid) => write!(f, "belongs to user {uid}"),
            PathFault::Writable(mode) => write!(f, "can be written by other users (mode {mode:04o})"),
            PathFault::NoFolder => f.write_str("is not a folder"),
        }
    }
}

impl ExposedPath {
    /// Returns the command or the change of configuration that mends the path.
    pub(crate) fn mend(&self) -> String {
        let place = self.place.display();
        match self.fault {
            PathFault::Link => "name the folder itself".to_owned(),
            PathFault::Owner(_) | PathFault::NoFolder => format!("remove {place}, or name another folder"),
            PathFault::Writable(mode) if mode & STICKY != 0 => {
                format!("name a folder that is not below {place}, which is for all users")
            }
            PathFault::Writable(_) => format!("`chmod go-w {place}`"),
        }
    }
}

/// Finds the first part of an absolute path that is a symbolic link, or that another user owns or
/// can write to. A part that does not exist ends the search.
///
/// # Errors
///
/// Fails if the metadata of a part cannot be read.
pub(crate) fn find(path: &Path) -> io::Result<Option<ExposedPath>> {
    first_of(path, |_| false)
}

/// Does the same as [`find`], but accepts shared folders such as `/tmp`. In a folder with the
/// sticky bit, only the owner of an entry can remove it, and the next part of the path is checked
/// for its owner.
///
/// # Errors
///
/// Fails if the metadata of a part cannot be read.
pub(crate) fn find_beside_others(path: &Path) -> io::Result<Option<ExposedPath>> {
    first_of(path, |fault| matches!(fault, PathFault::Writable(mode) if mode & libc::S_ISVTX != 0))
}

fn first_of(path: &Path, is_harmless: impl Fn(&PathFault) -> bool) -> io::Result<Option<ExposedPath>> {
    let parts: Vec<_> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    for part in parts.into_iter().rev() {
        let fault = match fs::symlink_metadata(part) {
            Ok(metadata) => fault_of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(fault) = fault.filter(|fault| !is_harmless(fault)) {
            return Ok(Some(ExposedPath { place: part.to_owned(), fault }));
        }
    }
    Ok(None)
}

/// Returns the fault of one folder, or `None` if only root and the user of bmpd can change it.
pub(crate) fn fault_of(metadata: &fs::Metadata) -> Option<PathFault> {
    let mode = metadata.mode() & 0o7777;
    if metadata.file_type().is_symlink() {
        Some(PathFault::Link)
    } else if !metadata.is_dir() {
        Some(PathFault::NoFolder)
    } else if metadata.uid() != 0 && metadata.uid() != sys::user() {
        Some(PathFault::Owner(metadata.uid()))
    } else if mode & WRITABLE != 0 {
        Some(PathFault::Writable(mode))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// Only root can change `/run`; any user can change `/tmp`.
    fn folder() -> tempfile::TempDir {
        tempfile::TempDir::with_prefix_in("bmpd-exposure-", "/run").unwrap()
    }

    #[test]
    fn a_folder_of_root_below_folders_of_root_is_not_exposed() {
        let folder = folder();
        assert_eq!(find(folder.path()).unwrap(), None);
        assert_eq!(find(&folder.path().join("not/there")).unwrap(), None);
    }

    #[test]
    fn the_mend_never_removes_a_folder_that_all_users_share() {
        let mend = |mode| ExposedPath { place: "/tmp".into(), fault: PathFault::Writable(mode) }.mend();
        assert_eq!(mend(0o777), "`chmod go-w /tmp`");
        assert!(mend(0o1777).contains("name a folder that is not below /tmp"), "{}", mend(0o1777));
    }

    #[test]
    fn each_way_for_another_user_to_change_a_path_is_found() {
        let folder = folder();
        let inner = folder.path().join("outer/inner");
        let outer = folder.path().join("outer");
        fs::create_dir_all(&inner).unwrap();
        let fault = || find(&inner).unwrap().map(|exposed| (exposed.place, exposed.fault));
        for place in [&outer, &inner] {
            for mode in [0o720, 0o702, 0o1777] {
                fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
                assert_eq!(fault(), Some((place.clone(), PathFault::Writable(mode))));
            }
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
            chown(place, Some(65534), None).unwrap();
            assert_eq!(fault(), Some((place.clone(), PathFault::Owner(65534))));
            chown(place, Some(0), None).unwrap();
        }
        assert_eq!(fault(), None);
        fs::rename(&outer, folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &outer).unwrap();
        assert_eq!(fault(), Some((outer, PathFault::Link)));
    }
}
