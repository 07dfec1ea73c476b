//! Commits: what they keep, refuse and leave alone.

use super::*;

#[tokio::test]
async fn a_commit_is_written_and_in_force_and_the_file_before_it_is_kept() {
    let device = TasklessDevice::new("# by hand\nsysname HUAWEI\n");
    let mut operator = device.operator();
    let mut running = device.context.store.subscribe();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "tcp connect port 11019", "hold-down 200"] {
        run(&mut operator, command).await;
    }
    assert_eq!(
        run(&mut operator, "display configuration candidate changes").await,
        "+bmp\n+ bmp-session 198.51.100.7\n+  tcp connect port 11019\n+  hold-down 200\n"
    );
    assert!(!running.has_changed().unwrap());
    assert_eq!(run(&mut operator, "commit").await, "");
    assert!(running.has_changed().unwrap());
    let config = running.borrow_and_update().clone();
    assert_eq!(device.kept("bmpd.conf").replace("# by hand\n", ""), print(&config));
    assert!(device.kept("bmpd.conf").contains("\n# by hand\nsysname HUAWEI\n"));
    assert_eq!(device.kept("bmpd.conf.previous"), "# by hand\nsysname HUAWEI\n");
    assert_eq!(fs::read_dir(device.folder.path()).unwrap().count(), 2);
    assert_eq!(run(&mut operator, "display current-configuration | include hold").await, "  hold-down 200\n");
    assert_eq!(run(&mut operator, "commit").await, "Info: there is nothing to commit.\n");
}

#[tokio::test]
async fn a_commit_that_cannot_be_written_changes_nothing() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    fs::write(device.folder.path().join("bmpd.conf"), "sysname somebody\n").unwrap();
    let said = refused(&mut operator, "commit").await;
    assert!(said.contains("was changed since bmpd read it"), "{said}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
    assert_eq!(device.kept("bmpd.conf"), "sysname somebody\n");
    // After a reload the file is in force, and conflicts with the candidate.
    assert!(device.context.store.reload().await.unwrap());
    let said = refused(&mut operator, "commit").await;
    assert!(said.ends_with("\n-sysname HUAWEI\n+sysname somebody"), "{said}");
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, "[*somebody]");
    fs::remove_dir_all(device.folder.path()).unwrap();
    run(&mut operator, "clear configuration candidate").await;
    run(&mut operator, "sysname edge1").await;
    let said = refused(&mut operator, "commit").await;
    assert!(said.starts_with("Error: cannot keep the configuration in "), "{said}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_broken_file_changes_nothing_when_it_is_read_again() {
    let device = TasklessDevice::new(FILE);
    fs::write(device.folder.path().join("bmpd.conf"), "sysname\n").unwrap();
    let error = device.context.store.reload().await.unwrap_err().to_string();
    assert!(error.contains(":1:8: error:"), "{error}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
}

#[tokio::test]
async fn two_operators_do_not_lose_each_others_commits() {
    let device = TasklessDevice::new(FILE);
    let (mut one, mut other) = (device.operator(), device.operator());
    for operator in [&mut one, &mut other] {
        run(operator, "system-view").await;
        run(operator, "bmp").await;
    }
    run(&mut one, "bmp-session 198.51.100.7").await;
    run(&mut one, "tcp connect port 1").await;
    run(&mut other, "bmp-session 198.51.100.8").await;
    run(&mut other, "tcp connect port 2").await;
    run(&mut one, "commit").await;
    let changes = run(&mut other, "display configuration candidate changes").await;
    assert!(changes.contains("Info: another configuration is in force"), "{changes}");
    run(&mut other, "commit").await;
    assert_eq!(device.context.store.running().bmp.sessions.len(), 2);
    // Both operators change the same line.
    run(&mut one, "tcp connect port 11").await;
    run(&mut other, "bmp-session 198.51.100.7").await;
    run(&mut other, "tcp connect port 12").await;
    run(&mut one, "commit").await;
    let changes = run(&mut other, "display configuration candidate changes").await;
    assert!(changes.contains("Warning: a commit will be refused") && !changes.contains("on top of it"), "{changes}");
    let said = refused(&mut other, "commit").await;
    assert!(said.contains("`clear configuration candidate`"), "{said}");
    assert!(
        said.ends_with("\n bmp\n  bmp-session 198.51.100.7\n-  tcp connect port 1\n+  tcp connect port 11"),
        "{said}"
    );
    run(&mut other, "clear configuration candidate").await;
    // Another operator removes the view.
    run(&mut other, "shutdown").await;
    run(&mut one, "undo bmp-session 198.51.100.7").await;
    run(&mut one, "commit").await;
    let said = refused(&mut other, "commit").await;
    assert!(said.ends_with("\n bmp\n- bmp-session 198.51.100.7"), "{said}");
}

#[tokio::test]
async fn two_valid_changes_that_are_invalid_together_are_refused() {
    let device = TasklessDevice::new("bmp\n bmp-session 198.51.100.7\n bmp-session 198.51.100.7 alias a\n");
    let (mut one, mut other) = (device.operator(), device.operator());
    for (operator, session) in [(&mut one, "198.51.100.7"), (&mut other, "198.51.100.7 alias a")] {
        run(operator, "system-view").await;
        run(operator, "bmp").await;
        run(operator, &format!("bmp-session {session}")).await;
        run(operator, "tcp connect port 1").await;
    }
    run(&mut one, "commit").await;
    let said = refused(&mut other, "commit").await;
    assert!(said.contains("198.51.100.7 connects to port 1 of this station already"), "{said}");
}

#[tokio::test]
async fn a_commit_warns_of_an_interface_that_is_a_layer_2_port() {
    let device = TasklessDevice::new("bmp\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "connect-interface eth2"] {
        run(&mut operator, command).await;
    }
    assert!(run(&mut operator, "commit").await.contains("Warning: interface eth2 is a layer 2 port"));
}

const COMMENTED: &str = "\
# Edge router of the east.
# Contact: the NOC.

# Its name is on the label.
sysname HUAWEI
#
bmp
 # Every station of the east
 #
 bmp-session 198.51.100.7
\t# is told over this port.
  tcp connect port 11019
  # This changes nothing.
  hold-down 0
 bmp-session 198.51.100.8
return
# The end.
";

#[tokio::test]
async fn comments_stay_with_their_lines_through_commits() {
    let device = TasklessDevice::new(COMMENTED);
    let mut operator = device.operator();
    for command in ["system-view", "sysname edge1", "bmp", "bmp-session 198.51.100.7", "hold-down 7", "commit"] {
        run(&mut operator, command).await;
    }
    let kept = "# Edge router of the east.\n# Contact: the NOC.\n#\n# Its name is on the label.\nsysname edge1\n#\nbmp\n #\n \
                # Every station of the east\n bmp-session 198.51.100.7\n  # is told over this port.\n  \
                tcp connect port 11019\n  # This changes nothing.\n  hold-down 7\n #\n bmp-session 198.51.100.8\n#\nreturn\n# The end.\n";
    assert_eq!(device.kept("bmpd.conf"), kept);
    // The next commit loses no comment, and removes those of removed lines.
    run(&mut operator, "undo bmp-session 198.51.100.8").await;
    run(&mut operator, "bmp-session 198.51.100.7").await;
    run(&mut operator, "undo tcp connect port").await;
    run(&mut operator, "commit").await;
    let kept = kept.replace("  # is told over this port.\n  tcp connect port 11019\n", "");
    assert_eq!(device.kept("bmpd.conf"), kept.replace(" #\n bmp-session 198.51.100.8\n", ""));
    assert!(!run(&mut operator, "display current-configuration").await.contains("label"));
}

#[tokio::test]
async fn a_file_that_the_next_start_would_refuse_is_not_written() {
    // Comments count too. This file has the largest size that can be read.
    let most = 1 << 20;
    let text = format!("#{}\n{FILE}", "x".repeat(most - FILE.len() - 2));
    let device = TasklessDevice::new(&text);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    for command in ["commit", "commit trial 30"] {
        let said = refused(&mut operator, command).await;
        assert!(said.contains("could not be read at the next start") && said.contains("at most 1048576"), "{said}");
        assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
        assert_eq!(device.kept("bmpd.conf"), text);
    }
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, "[*HUAWEI]");
    let mut names: Vec<_> =
        fs::read_dir(device.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bmpd.conf"]);
}
