//! The history of commits, and the return to an earlier one.

use std::os::unix::fs::symlink;

use super::*;

/// A device whose history can be written.
fn device() -> TasklessDevice {
    let device = TasklessDevice::new(FILE).with_history();
    fs::create_dir(device.folder.path().join("state")).unwrap();
    device
}

async fn commits(device: &TasklessDevice) -> Vec<u64> {
    device.context.store.commits().await.unwrap().records.iter().map(|record| record.id).collect()
}

#[tokio::test]
async fn a_rollback_is_a_commit_of_its_own_and_can_be_rolled_back() {
    let device = device();
    let mut operator = device.operator().at(0, Some(std::process::id()));
    run(&mut operator, "system-view").await;
    for (name, commit) in [("one", "commit"), ("two", "commit label second description \"the second name\"")] {
        run(&mut operator, &format!("sysname {name}")).await;
        assert_eq!(run(&mut operator, commit).await, "");
    }
    assert_eq!(commits(&device).await, [3, 2, 1]);
    let list = run(&mut operator, "display configuration commit list").await;
    for part in ["second", "the second name", "root, ", &format!("({})", std::process::id()), "the file"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    let changes = run(&mut operator, "display configuration commit changes at 2").await;
    assert!(changes.starts_with("# Commit 2, ") && changes.ends_with("\n-sysname HUAWEI\n+sysname one\n"), "{changes}");
    let said = run(&mut operator, "rollback configuration to commit 1").await;
    assert_eq!(said, "Info: the configuration of commit 1 is in force.\n");
    assert_eq!(device.kept("bmpd.conf"), "#\nsysname HUAWEI\n#\nreturn\n");
    assert_eq!(commits(&device).await, [4, 3, 2, 1]);
    run(&mut operator, "rollback configuration last 1").await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("two"));
    let said = run(&mut operator, "rollback configuration to label second").await;
    assert_eq!(said, "Info: the configuration of commit 3 is in force already.\n");
    let said = refused(&mut operator, "rollback configuration last 9").await;
    assert!(said.contains("the configuration before the last 9 commits is not in the history"), "{said}");
}

#[tokio::test]
async fn a_rollback_does_not_lose_a_candidate_and_can_be_a_trial() {
    let device = device();
    let (mut operator, mut other) = (device.operator(), device.operator());
    for command in ["system-view", "sysname one", "commit", "sysname two"] {
        run(&mut operator, command).await;
    }
    let said = refused(&mut operator, "rollback configuration last 1").await;
    assert!(said.contains("`clear configuration candidate`"), "{said}");
    run(&mut operator, "clear configuration candidate").await;
    run(&mut operator, "bmp-relay frr").await;
    run(&mut operator, "commit").await;
    let said = run(&mut operator, "rollback configuration last 1 trial 600").await;
    assert!(said.contains("in force for 600 s"), "{said}");
    assert_eq!(commits(&device).await, [3, 2, 1], "a trial is not kept");
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, "[~one(trial)]", "the relay's view is gone");
    let said = refused(&mut other, "rollback configuration to commit 1").await;
    assert!(said.contains("a trial is in force"), "{said}");
    run(&mut operator, "commit").await;
    let records = device.context.store.commits().await.unwrap().records;
    let newest = records.first().unwrap();
    assert_eq!((newest.id, newest.description.as_deref()), (4, Some("rollback to commit 2")));
}

#[tokio::test]
async fn a_history_that_cannot_be_written_is_told_once_and_hinders_no_commit() {
    let device = TasklessDevice::new(FILE).with_history();
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname one").await;
    let said = run(&mut operator, "commit").await;
    assert!(said.starts_with("Warning: commits are not in the history until it can be written: "), "{said}");
    assert!(said.contains("state/commits"), "{said}");
    run(&mut operator, "sysname two").await;
    assert_eq!(run(&mut operator, "commit").await, "");
    assert_eq!(device.kept("bmpd.conf"), "#\nsysname two\n#\nreturn\n");
    let list = run(&mut operator, "display configuration commit list").await;
    assert!(list.contains("Number of commits : 0") && list.contains("Warning: commits are not in the"), "{list}");
    // The next commit that can be recorded tells of the configuration before it.
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), device.folder.path().join("state")).unwrap();
    run(&mut operator, "sysname three").await;
    assert_eq!(run(&mut operator, "commit").await, "");
    assert_eq!(commits(&device).await, [2, 1]);
    let list = run(&mut operator, "display configuration commit list").await;
    assert!(!list.contains("Warning"), "{list}");
}

#[tokio::test]
async fn a_bmpd_without_a_history_says_so() {
    let device = TasklessDevice::new(FILE);
    let said = refused(&mut device.operator(), "display configuration commit list").await;
    assert!(said.contains("no history of commits is kept"), "{said}");
    let mut viewer = device.operator().with_role(OperatorRole::View);
    let said = refused(&mut viewer, "rollback configuration last 1").await;
    assert!(said.contains("you may look and not configure"), "{said}");
}
