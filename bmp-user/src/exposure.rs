//! Paths that another user could change under bmpd: names that root relies on must be root's alone.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::sys;

/// Write permission of group and others (`S_IWGRP | S_IWOTH`).
const WRITABLE: u32 = 0o022;

/// A folder like `/tmp`, which is for everybody and must stay so (`S_ISVTX`).
const STICKY: u32 = 0o1000;

/// Why a path is not bmpd's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// The part of the path that is at fault.
    pub(crate) place: PathBuf,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

/// What is wrong with a part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is a symbolic link.
    Link,
    /// Another user owns it: the user id.
    Owner(u32),
    /// Other users can write to it: its permissions.
    Writable(u32),
    /// It is neither a folder nor a symbolic link.
    NoFolder,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.place.display())?;
        match self.fault {
            Fault::Link => f.write_str("is a symbolic link"),
            Fault::Owner(uid) => write!(f, "belongs to user {uid}"),
            Fault::Writable(mode) => write!(f, "can be written by other users (mode {mode:04o})"),
            Fault::NoFolder => f.write_str("is not a folder"),
        }
    }
}

impl Exposed {
    /// The command that mends it, as far as one does.
    pub(crate) fn mend(&self) -> String {
        let place = self.place.display();
        match self.fault {
            Fault::Link => "name the folder itself".to_owned(),
            Fault::Owner(_) | Fault::NoFolder => format!("remove {place}, or name another folder"),
            Fault::Writable(mode) if mode & STICKY != 0 => {
                format!("name a folder that is not below {place}, which is for all users")
            }
            Fault::Writable(_) => format!("`chmod go-w {place}`"),
        }
    }
}

/// Finds the first part of an absolute path that another user owns or can write, or that is a symbolic link. Parts that do not exist are
/// passed over.
///
/// # Errors
///
/// A part cannot be looked at.
pub(crate) fn find(path: &Path) -> io::Result<Option<Exposed>> {
    first_of(path, |_| false)
}

/// The same for a path that may lead through folders like `/tmp`: where the sticky bit is set only its owner takes a file away, and whose the
/// next part is, is looked at.
///
/// # Errors
///
/// A part cannot be looked at.
pub(crate) fn find_beside_others(path: &Path) -> io::Result<Option<Exposed>> {
    first_of(path, |fault| matches!(fault, Fault::Writable(mode) if mode & libc::S_ISVTX != 0))
}

fn first_of(path: &Path, is_harmless: impl Fn(&Fault) -> bool) -> io::Result<Option<Exposed>> {
    let parts: Vec<_> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    for part in parts.into_iter().rev() {
        let fault = match fs::symlink_metadata(part) {
            Ok(found) => fault_of(&found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(fault) = fault.filter(|fault| !is_harmless(fault)) {
            return Ok(Some(Exposed { place: part.to_owned(), fault }));
        }
    }
    Ok(None)
}

/// What is wrong with one folder.
pub(crate) fn fault_of(found: &fs::Metadata) -> Option<Fault> {
    let mode = found.mode() & 0o7777;
    if found.file_type().is_symlink() {
        Some(Fault::Link)
    } else if !found.is_dir() {
        Some(Fault::NoFolder)
    } else if found.uid() != 0 && found.uid() != sys::user() {
        Some(Fault::Owner(found.uid()))
    } else if mode & WRITABLE != 0 {
        Some(Fault::Writable(mode))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// `/run` is root's alone, unlike `/tmp`.
    fn folder() -> tempfile::TempDir {
        tempfile::TempDir::with_prefix_in("bmpd-exposure-", "/run").unwrap()
    }

    #[test]
    fn a_folder_of_roots_below_folders_of_roots_is_not_exposed() {
        let folder = folder();
        assert_eq!(find(folder.path()).unwrap(), None);
        assert_eq!(find(&folder.path().join("not/there")).unwrap(), None);
    }

    #[test]
    fn nobody_is_told_to_take_a_folder_away_that_is_for_everybody() {
        let mend = |mode| Exposed { place: "/tmp".into(), fault: Fault::Writable(mode) }.mend();
        assert_eq!(mend(0o777), "`chmod go-w /tmp`");
        assert!(mend(0o1777).contains("name a folder that is not below /tmp"), "{}", mend(0o1777));
    }

    #[test]
    fn each_way_in_which_a_part_of_the_path_is_another_users_is_found() {
        let folder = folder();
        let inner = folder.path().join("outer/inner");
        let outer = folder.path().join("outer");
        fs::create_dir_all(&inner).unwrap();
        let fault = || find(&inner).unwrap().map(|exposed| (exposed.place, exposed.fault));
        for place in [&outer, &inner] {
            for mode in [0o720, 0o702, 0o1777] {
                fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
                assert_eq!(fault(), Some((place.clone(), Fault::Writable(mode))));
            }
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
            chown(place, Some(65534), None).unwrap();
            assert_eq!(fault(), Some((place.clone(), Fault::Owner(65534))));
            chown(place, Some(0), None).unwrap();
        }
        assert_eq!(fault(), None);
        fs::rename(&outer, folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &outer).unwrap();
        assert_eq!(fault(), Some((outer, Fault::Link)));
    }
}
