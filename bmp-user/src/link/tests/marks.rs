use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
            net,
        },
    },
};

use tempfile::TempDir;

use super::namespace::in_namespace;
use crate::link::Marks;

const MARK: u32 = 0x626d_0001;

/// A folder of root below `/run`, as in production.
fn run() -> TempDir {
    TempDir::with_prefix_in("bmpd-marks-", "/run").unwrap()
}

#[test]
fn a_mark_has_one_owner_in_each_network_namespace() {
    in_namespace(|| async {
        let run = run();
        let folder = run.path().join("bmpd/marks");
        let [one, other] = [(); 2].map(|()| Marks::open_in(&folder).unwrap());
        let owned = one.take(MARK).unwrap().unwrap();
        assert!(other.take(MARK).unwrap().is_none());
        assert!(other.take(MARK + 1).unwrap().is_some());
        let elsewhere = folder.clone();
        in_namespace(|| async move { assert!(Marks::open_in(&elsewhere).unwrap().take(MARK).unwrap().is_some()) });
        drop(owned);
        assert!(other.take(MARK).unwrap().is_some());
    });
}

#[test]
fn an_abstract_socket_of_the_marks_name_does_not_block_the_mark() {
    in_namespace(|| async {
        let name = net::SocketAddr::from_abstract_name(format!("bmpd-next-hop-{MARK:08x}")).unwrap();
        let _anybody = net::UnixDatagram::bind_addr(&name).unwrap();
        assert!(Marks::open_in(&run().path().join("bmpd/marks")).unwrap().take(MARK).unwrap().is_some());
    });
}

#[test]
fn the_last_user_of_the_lock_file_removes_it_and_its_folders() {
    in_namespace(|| async {
        let run = run();
        let folder = run.path().join("bmpd/marks");
        let [one, other] = [(); 2].map(|()| Marks::open_in(&folder).unwrap());
        let owned = one.take(MARK).unwrap().unwrap();
        drop(one);
        drop(other);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a mark is still owned");
        let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().metadata().unwrap();
        assert_eq!((file.mode() & 0o7777, fs::metadata(&folder).unwrap().mode() & 0o7777), (0o600, 0o700));
        drop(owned);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    });
}

#[test]
fn a_folder_that_other_users_can_change_is_refused_with_the_reason() {
    in_namespace(|| async {
        let run = run();
        let (above, folder) = (run.path().join("bmpd"), run.path().join("bmpd/marks"));
        fs::create_dir(&above).unwrap();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Marks::open_in(&folder).unwrap_err().to_string();
        assert!(refused.contains("can be written by other users") && refused.contains("chmod go-w"), "{refused}");
        fs::remove_dir_all(&above).unwrap();
        let elsewhere = run.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &above).unwrap();
        let refused = Marks::open_in(&folder).unwrap_err().to_string();
        assert!(refused.contains("is a symbolic link"), "{refused}");
    });
}
