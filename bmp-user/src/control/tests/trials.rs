//! Trials: a configuration that is in force for a time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_trial_ends_by_itself_unless_it_is_confirmed() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let mut running = device.context.store.subscribe();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    let said = run(&mut operator, "commit trial 30").await;
    assert!(said.contains("for 30 s"), "{said}");
    assert_eq!(running.borrow_and_update().sysname.as_deref(), Some("edge1"));
    assert_eq!(device.kept("bmpd.conf"), FILE);
    let error = device.context.store.reload().await.unwrap_err().to_string();
    assert!(error.contains("a trial is in force for another 30 s"), "{error}");
    running.changed().await.unwrap();
    assert_eq!(running.borrow_and_update().sysname.as_deref(), Some("HUAWEI"));
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, "[~HUAWEI]");

    run(&mut operator, "sysname edge1").await;
    run(&mut operator, "commit trial 30").await;
    // Another operator cannot commit changes. Without changes they may confirm, and are asked.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    run(&mut other, "bmp").await;
    assert!(refused(&mut other, "commit").await.contains("a trial is in force"));
    run(&mut other, "clear configuration candidate").await;
    asked(&mut other, "commit").await;
    assert_eq!(run(&mut other, "y").await, "Info: the trial is confirmed and kept.\n");
    assert_eq!(device.kept("bmpd.conf"), "#\nsysname edge1\n#\nreturn\n");
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge1"));
}

#[tokio::test(start_paused = true)]
async fn a_trial_can_be_aborted_and_a_later_one_has_its_own_time() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    assert!(refused(&mut operator, "abort trial").await.contains("no trial is in force"));
    assert!(refused(&mut operator, "commit trial 30").await.contains("nothing is pending"));
    run(&mut operator, "sysname edge1").await;
    run(&mut operator, "commit trial 30").await;
    run(&mut operator, "abort trial").await;
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, "[~HUAWEI]");
    run(&mut operator, "sysname edge2").await;
    run(&mut operator, "commit trial 60").await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge2"));
    run(&mut operator, "sysname edge3").await;
    run(&mut operator, "commit").await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge3"));
}

#[tokio::test(start_paused = true)]
async fn the_owner_confirms_a_trial_and_every_operator_sees_it() {
    let device = TasklessDevice::new(FILE);
    let mut notices = device.context.store.notices();
    let (mut owner, mut other) = (device.operator().at(0, Some(11)), device.operator().at(65_534, Some(12)));
    assert_eq!(run(&mut other, "display configuration trial").await, "No trial is in force.\n");
    run(&mut owner, "system-view").await;
    run(&mut owner, "sysname edge1").await;
    run(&mut owner, "commit trial 30").await;
    assert_eq!(ask(&mut owner, "bmp", RequestMode::Run).await.prompt, "[*edge1(trial)-bmp]");
    run(&mut owner, "clear configuration candidate").await;
    assert_eq!(ask(&mut other, "", RequestMode::Run).await.prompt, "<edge1(trial)>");
    let notice = notices.recv().await.unwrap();
    assert_eq!((&*notice.text, notice.by), ("Info: a trial by root (process 11) is in force for 30 s.", Some(11)));
    let shown = run(&mut other, "display configuration trial").await;
    for part in ["Owner       : root", "process 11, connected", "30 s of 30 s"] {
        assert!(shown.contains(part), "{shown}");
    }
    // Without a terminal the refusal names the command that would do it.
    let response = ask(&mut other, "commit", RequestMode::Run).await;
    let CommandAnswer::Refused(said) = response.answer else { panic!("{response:?}") };
    assert!(said.contains("the trial is by root (process 11), 30 s left: `commit force`"), "{said}");
    let question = "The trial is by root (process 11), 30 s left: confirm it all the same? [y/N]: ";
    assert_eq!(asked(&mut other, "commit").await, question);
    assert_eq!(run(&mut other, "").await, "Info: the trial goes on.\n");
    assert!(asked(&mut other, "abort trial").await.contains("end it all the same?"));
    assert_eq!(run(&mut other, "no").await, "Info: the trial goes on.\n");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge1"));
    // Also when the connection of the owner is gone.
    drop(owner);
    let request = Request { command: "display configuration trial".to_owned(), json: true, ..Request::default() };
    let CommandAnswer::Done(json) = other.answer(&request).await.answer else { panic!() };
    let json: serde_json::Value = read_json(&json).unwrap();
    assert_eq!((&json["user"], &json["connected"]), (&"root".into(), &false.into()));
    assert_eq!(json["seconds_left"], 30);
    asked(&mut other, "commit").await;
    assert_eq!(run(&mut other, "yes").await, "Info: the trial is confirmed and kept.\n");
    assert!(notices.recv().await.unwrap().text.contains("is confirmed by "));
    assert_eq!(ask(&mut other, "", RequestMode::Run).await.prompt, "<edge1>");

    let mut owner = device.operator();
    run(&mut owner, "system-view").await;
    for (command, end) in [("commit force", "is confirmed by"), ("abort trial force", "is aborted by")] {
        run(&mut owner, &format!("sysname {}", end.len())).await;
        run(&mut owner, "commit trial 30").await;
        notices.recv().await.unwrap();
        assert!(matches!(ask(&mut other, command, RequestMode::Run).await.answer, CommandAnswer::Done(_)));
        assert!(notices.recv().await.unwrap().text.contains(end));
    }
    run(&mut owner, "sysname edge3").await;
    run(&mut owner, "commit trial 30").await;
    notices.recv().await.unwrap();
    let notice = notices.recv().await.unwrap();
    assert!(notice.text.contains("is over and was not confirmed") && notice.by.is_none(), "{notice:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_about_a_trial_ends_with_the_trial() {
    let device = TasklessDevice::new(FILE);
    let (mut owner, mut other) = (device.operator(), device.operator());
    run(&mut owner, "system-view").await;
    let over = "Info: that trial has ended meanwhile: nothing was done.\n";
    for answer in ["y", "n", "", "display configuration trial"] {
        run(&mut owner, "sysname edge1").await;
        run(&mut owner, "commit trial 30").await;
        let question = asked(&mut other, "commit").await;
        let repeated = ask(&mut other, "", RequestMode::Repeat).await.answer;
        assert_eq!(repeated, CommandAnswer::Question(question), "as long as it runs");
        run(&mut owner, "abort trial").await;
        // A command is not an answer: it is carried out.
        let expected = if answer.len() > 1 { "No trial is in force.\n" } else { over };
        assert_eq!(run(&mut other, answer).await, expected);
    }
    run(&mut owner, "sysname edge1").await;
    run(&mut owner, "commit trial 30").await;
    asked(&mut other, "abort trial").await;
    run(&mut owner, "commit").await;
    assert_eq!(ask(&mut other, "", RequestMode::Repeat).await.answer, CommandAnswer::Done(over.to_owned()));
    assert!(refused(&mut other, "y").await.contains("unknown command"), "nothing is asked any more");
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_count_for_the_next_trial() {
    let device = TasklessDevice::new(FILE);
    let (mut owner, mut other) = (device.operator(), device.operator());
    run(&mut owner, "system-view").await;
    run(&mut owner, "sysname edge1").await;
    run(&mut owner, "commit trial 30").await;
    asked(&mut other, "commit").await;
    run(&mut owner, "abort trial").await;
    run(&mut owner, "sysname edge2").await;
    run(&mut owner, "commit trial 30").await;
    assert!(run(&mut other, "yes").await.contains("ended meanwhile"));
    assert_eq!(device.kept("bmpd.conf"), FILE);
    assert!(device.context.store.trial().await.is_some());
}

#[tokio::test]
async fn an_operator_who_confirms_with_more_changes_is_told_that_both_are_kept() {
    let device = TasklessDevice::new(FILE);
    let mut owner = device.operator();
    run(&mut owner, "system-view").await;
    run(&mut owner, "sysname edge1").await;
    run(&mut owner, "commit trial 30").await;
    run(&mut owner, "bmp").await;
    let said = run(&mut owner, "commit").await;
    assert_eq!(said, "Info: the trial is confirmed and kept, together with these changes.\n");
    assert_eq!(device.kept("bmpd.conf"), "#\nsysname edge1\n#\nbmp\n#\nreturn\n");
}

#[tokio::test]
async fn a_trial_over_a_file_that_was_changed_by_hand_is_refused() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    fs::write(device.folder.path().join("bmpd.conf"), "sysname by-hand\n").unwrap();
    for command in ["commit trial 30", "commit"] {
        let said = refused(&mut operator, command).await;
        assert!(said.contains("was changed since bmpd read it"), "{command}: {said}");
    }
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
    assert!(device.context.store.trial().await.is_none());
}
