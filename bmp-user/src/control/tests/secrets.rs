//! Secrets: sealed in the file, and shown nowhere.

use super::*;

const SECRETS: &str = "bgp 65000\n peer 192.0.2.2 as-number 65001\n peer 192.0.2.2 password hunter2\nbmp\n bmp-session \
                       198.51.100.7\n  tcp connect port 11019 password md5 hunter3\n";

#[tokio::test]
async fn secrets_are_sealed_in_the_files_and_shown_nowhere() {
    let device = TasklessDevice::new(SECRETS);
    let mut operator = device.operator();
    let hidden = |said: &str| assert!(!said.contains("hunter") && said.contains(crate::config::MASK), "{said}");
    hidden(&run(&mut operator, "display current-configuration").await);
    assert!(!run(&mut operator, "display current-configuration | include hunter").await.contains("hunter"));
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "tcp connect port 11019 password md5 hunter4"] {
        run(&mut operator, command).await;
    }
    hidden(&run(&mut operator, "display configuration candidate").await);
    hidden(&run(&mut operator, "display configuration candidate changes").await);
    assert_eq!(run(&mut operator, "commit").await, "");
    for name in ["bmpd.conf", "bmpd.conf.previous"] {
        let kept = device.kept(name);
        assert!(!kept.contains("hunter") && kept.contains(" password md5 cipher "), "{name}: {kept}");
    }
    // Also in another operator's changes, and in a refused undo.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    for (operator, secret) in [(&mut operator, "hunter5"), (&mut other, "hunter6")] {
        run(operator, "bgp 65000").await;
        run(operator, &format!("peer 192.0.2.2 password {secret}")).await;
    }
    run(&mut operator, "commit").await;
    hidden(&refused(&mut other, "commit").await);
    hidden(&refused(&mut other, "undo peer 192.0.2.2 password hunter7").await);
    // Also in errors.
    for line in [
        "peer 192.0.2.2 password hunter2 x",
        "peer 192.0.2.2 pasword hunter2",
        "peer 192.0.2.2 p hunter2 x",
        "nonsense password hunter2",
        "peer 192.0.2.9 password hunter2",
        "key-string hunter2",
    ] {
        let response = ask(&mut operator, line, RequestMode::Run).await;
        let CommandAnswer::Refused(said) = response.answer else { panic!("{line}: {response:?}") };
        hidden(&said);
        assert!(response.secret, "{line}");
    }
    assert!(!format!("{:?} {operator:?}", device.context.store.running()).contains("hunter"));
    assert!(!ask(&mut operator, "display bmp session", RequestMode::Run).await.secret);
    // The mask itself is not a secret.
    let said = refused(&mut operator, "peer 192.0.2.2 password ******").await;
    assert!(said.contains("is shown in the place of a secret"), "{said}");
}

#[tokio::test]
async fn the_secrets_of_a_key_chain_are_sealed_in_the_file_and_shown_nowhere() {
    let device = TasklessDevice::new("sysname edge1\n");
    let mut operator = device.operator();
    let hidden = |said: &str| assert!(!said.contains("hunter") && said.contains(crate::config::MASK), "{said}");
    for line in ["system-view", "keychain core", "key-id 1", "algorithm hmac-sha-1-96"] {
        run(&mut operator, line).await;
    }
    let response = ask(&mut operator, "k hunter2", RequestMode::Run).await;
    assert!(response.secret && response.prompt == "[*edge1-keychain-core-keyid-1]", "{response:?}");
    hidden(&run(&mut operator, "display this").await);
    hidden(&run(&mut operator, "display configuration candidate changes").await);
    assert_eq!(run(&mut operator, "commit").await, "");
    hidden(&run(&mut operator, "display current-configuration keychain core").await);
    let kept = device.kept("bmpd.conf");
    assert!(!kept.contains("hunter") && kept.contains("  key-string cipher "), "{kept}");
    for line in ["key-string hunter3 x", "key-string cipher hunter3", "keystring hunter3", "quit", "k hunter3"] {
        let response = ask(&mut operator, line, RequestMode::Run).await;
        if let CommandAnswer::Refused(said) = response.answer {
            assert!(!said.contains("hunter"), "{line}: {said}");
        }
    }
}

#[tokio::test]
async fn save_seals_the_secrets_that_the_file_has_as_they_are() {
    let device = TasklessDevice::new(SECRETS);
    let mut operator = device.operator();
    run(&mut operator, "commit").await;
    assert_eq!(device.kept("bmpd.conf"), SECRETS);
    let said = run(&mut operator, "save").await;
    assert!(said.contains("with its secrets sealed"), "{said}");
    let kept = device.kept("bmpd.conf");
    assert!(!kept.contains("hunter") && kept.matches(" cipher ").count() == 2, "{kept}");
    assert!(!device.kept("bmpd.conf.previous").contains("hunter"));
    assert!(run(&mut operator, "save").await.contains("is saved already"));
    // What does not change keeps its text.
    run(&mut operator, "system-view").await;
    for line in ["bgp 65000", "peer 192.0.2.2 password simple hunter2", "sysname edge1", "commit"] {
        run(&mut operator, line).await;
    }
    assert_eq!(device.kept("bmpd.conf").replace("#\nsysname edge1\n", ""), kept);
}

#[tokio::test]
async fn a_sealed_secret_of_another_key_is_refused_where_it_is_typed() {
    let device = TasklessDevice::new(SECRETS);
    let mut operator = device.operator();
    run(&mut operator, "save").await;
    let kept = device.kept("bmpd.conf");
    let sealed =
        kept.lines().find_map(|line| line.strip_prefix(" peer 192.0.2.2 password cipher ")).unwrap().to_owned();
    let other = TasklessDevice::new(SECRETS);
    for (device, is_refused) in [(device, false), (other, true)] {
        let mut operator = device.operator();
        run(&mut operator, "save").await;
        for line in ["system-view", "bgp 65000"] {
            run(&mut operator, line).await;
        }
        let line = format!("peer 192.0.2.2 password cipher {sealed}");
        if is_refused {
            let said = refused(&mut operator, &line).await;
            assert!(said.contains("sealed with another key than") && said.contains("`simple`"), "{said}");
            assert!(!said.contains(&sealed), "{said}");
        } else {
            run(&mut operator, &line).await;
            assert_eq!(run(&mut operator, "display configuration candidate changes").await, "");
        }
    }
}

#[tokio::test]
async fn a_secret_of_80_characters_and_one_that_is_a_keyword_are_kept() {
    let longest = "路".repeat(26) + "xy";
    let device = TasklessDevice::new("bgp 65000\n peer 192.0.2.2 as-number 65001\n");
    let mut operator = device.operator();
    for line in ["system-view", "bgp 65000"] {
        run(&mut operator, line).await;
    }
    for (typed, secret) in [
        (format!("simple {longest}"), longest.as_str()),
        ("simple cipher".to_owned(), "cipher"),
        ("simple simple".to_owned(), "simple"),
        (format!("simple {}", "x".repeat(80)), &*"x".repeat(80)),
        ("hunter2".to_owned(), "hunter2"),
    ] {
        run(&mut operator, &format!("peer 192.0.2.2 password {typed}")).await;
        run(&mut operator, "commit").await;
        let path = device.folder.path().join("bmpd.conf");
        let read = load(&path, &KeyFile::beside(&path)).unwrap();
        let bgp = read.bgp.unwrap();
        let kept = bgp.peers.values().next().and_then(|peer| peer.password.clone()).unwrap();
        assert_eq!(kept.reveal().unwrap(), secret);
    }
    let said = refused(&mut operator, "peer 192.0.2.2 password cipher hunter2").await;
    assert!(said.contains("not the whole text of a sealed secret") && !said.contains("hunter2"), "{said}");
    let said = refused(&mut operator, "peer 192.0.2.2 password simple").await;
    assert!(said.contains("not complete"), "{said}");
}

#[tokio::test]
async fn a_commit_whose_secret_cannot_be_sealed_is_refused() {
    let device = TasklessDevice::new("bgp 65000\n peer 192.0.2.2 as-number 65001\n");
    // What is no key is not overwritten.
    fs::write(device.folder.path().join("bmpd.conf.key"), "?").unwrap();
    let mut operator = device.operator();
    for line in ["system-view", "bgp 65000", "peer 192.0.2.2 password hunter2"] {
        run(&mut operator, line).await;
    }
    for commit in ["commit", "commit trial 600"] {
        let said = refused(&mut operator, commit).await;
        assert!(said.contains("bmpd.conf.key is damaged, and no key of secrets"), "{said}");
    }
    assert!(!device.kept("bmpd.conf").contains("password"));
    assert_eq!(device.kept("bmpd.conf.key"), "?");
}

#[tokio::test]
async fn an_error_under_a_secret_has_its_carets_below_the_mask() {
    let device = TasklessDevice::new("bgp 65000\n peer 192.0.2.2 as-number 65001\n");
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "bgp 65000").await;
    assert_eq!(
        refused(&mut operator, &format!("peer 192.0.2.2 password {}", "x".repeat(81))).await,
        "peer 192.0.2.2 password ******\n                        ^^^^^^\nError: a secret has 1 to 80 characters, this has 81."
    );
    assert_eq!(
        refused(&mut operator, "peer 192.0.2.2 password hunter2 more").await.lines().nth(1),
        Some("                               ^^^^^^")
    );
}

/// Returns the abbreviations of a keyword, longest first, and other ways to write it.
fn spellings(keyword: &str) -> Vec<String> {
    let cut = (1..=keyword.len()).rev().map(|length| keyword[..length].to_owned());
    cut.chain([keyword.to_ascii_uppercase(), format!("{keyword}s")]).collect()
}

/// Returns lines that set or undo a secret, in every spelling of one keyword at a time. Some are
/// wrong behind the secret.
fn lines_with(secret: &str) -> Vec<(&'static [&'static str], String)> {
    const BGP: &[&str] = &["system-view", "bgp 65000"];
    const SESSION: &[&str] = &["system-view", "bmp", "bmp-session 198.51.100.7"];
    let mut lines = Vec::new();
    for undo in ["", "undo ", "u "] {
        for word in spellings("password") {
            for rest in
                [secret.to_owned(), format!("'{secret}'"), format!("\"{secret}\" x"), format!("{secret} {secret}")]
            {
                lines.push((BGP, format!("{undo}peer 192.0.2.2 {word} {rest}")));
                lines.push((BGP, format!("{undo}p 192.0.2.2 {word}\t{rest}")));
                lines.push((SESSION, format!("{undo}tcp connect port 11019 {word} md5 {rest}")));
                lines.push((SESSION, format!("{undo}t c p 11019 {word} m {rest}")));
                lines.push((SESSION, format!("{undo}tcp connect port 0 {word} {rest}")));
                lines.push((BGP, format!("{undo}peer 192.0.2.2 {word} simple {rest}")));
            }
        }
        for how in spellings("simple").into_iter().chain(spellings("cipher")) {
            lines.push((BGP, format!("{undo}peer 192.0.2.2 password {how} {secret}")));
            lines.push((SESSION, format!("{undo}tcp connect port 11019 password md5 {how} {secret}")));
        }
        for md5 in spellings("md5") {
            lines.push((SESSION, format!("{undo}tcp connect port 11019 password {md5} {secret}")));
        }
    }
    lines
}

#[tokio::test]
async fn no_spelling_shows_a_secret_in_an_answer_or_in_the_history() {
    const SECRET: &str = "Zq7hunter";
    for (views, line) in lines_with(SECRET) {
        let device =
            TasklessDevice::new("bgp 65000\n peer 192.0.2.2 as-number 65001\nbmp\n bmp-session 198.51.100.7\n");
        let mut operator = device.operator();
        for view in views {
            run(&mut operator, view).await;
        }
        let mut answers = Vec::new();
        for mode in [RequestMode::Help, RequestMode::Complete, RequestMode::Run] {
            let answer = ask(&mut operator, &line, mode).await;
            assert!(answer.secret, "{line}: it would be in the history");
            answers.push(answer);
        }
        for command in ["display configuration candidate changes", "display configuration candidate", "commit"] {
            answers.push(ask(&mut operator, command, RequestMode::Run).await);
        }
        for command in ["display current-configuration", "display bgp peer verbose", "display bmp session verbose"] {
            answers.push(ask(&mut operator, command, RequestMode::Run).await);
        }
        assert!(!format!("{answers:?}").contains(SECRET), "{line}: {answers:#?}");
    }
}

#[test]
fn no_spelling_shows_a_secret_in_the_errors_of_a_file() {
    const SECRET: &str = "Zq7hunter";
    for (views, line) in lines_with(SECRET) {
        let text = format!("{}\n{line}\nqqqq\n", views[1..].join("\n"));
        let errors = parse_file("bmpd.conf", &text).unwrap_err();
        let said: Vec<_> = errors.iter().map(|error| format!("{error} {error:?} {}", error.message)).collect();
        assert!(!said.concat().contains(SECRET), "{line}: {said:#?}");
    }
}
