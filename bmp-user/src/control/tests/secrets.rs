//! Secrets are in the file and nowhere else.

use super::*;

const SECRETS: &str = "bgp 65000\n peer 192.0.2.2 as-number 65001\n peer 192.0.2.2 password hunter2\nbmp\n bmp-session \
                       198.51.100.7\n  tcp connect port 11019 password md5 hunter3\n";

#[tokio::test]
async fn secrets_are_in_the_file_and_nowhere_else() {
    let device = Device::new(SECRETS);
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
    assert!(device.kept("bmpd.conf").contains("password md5 hunter4\n"));
    // Also what another operator has changed, and what cannot be taken back.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    for (operator, secret) in [(&mut operator, "hunter5"), (&mut other, "hunter6")] {
        run(operator, "bgp 65000").await;
        run(operator, &format!("peer 192.0.2.2 password {secret}")).await;
    }
    run(&mut operator, "commit").await;
    hidden(&refused(&mut other, "commit").await);
    hidden(&refused(&mut other, "undo peer 192.0.2.2 password hunter7").await);
    // And lines that are wrong.
    for line in [
        "peer 192.0.2.2 password hunter2 x",
        "peer 192.0.2.2 pasword hunter2",
        "peer 192.0.2.2 p hunter2 x",
        "nonsense password hunter2",
        "peer 192.0.2.9 password hunter2",
    ] {
        let response = ask(&mut operator, line, Mode::Run).await;
        let Outcome::Refused(said) = response.outcome else { panic!("{line}: {response:?}") };
        hidden(&said);
        assert!(response.secret, "{line}");
    }
    assert!(!format!("{:?} {operator:?}", device.context.store.running()).contains("hunter"));
    assert!(!ask(&mut operator, "display bmp session", Mode::Run).await.secret);
    // What is shown is no secret.
    let said = refused(&mut operator, "peer 192.0.2.2 password ******").await;
    assert!(said.contains("is shown in the place of a secret"), "{said}");
}

#[tokio::test]
async fn an_error_under_a_secret_has_its_carets_below_the_mask() {
    let device = Device::new("bgp 65000\n peer 192.0.2.2 as-number 65001\n");
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "bgp 65000").await;
    assert_eq!(
        refused(&mut operator, &format!("peer 192.0.2.2 password {}", "x".repeat(81))).await,
        "peer 192.0.2.2 password ******\n                        ^^^^^^\nError: a TCP MD5 secret has 1 to 80 characters, this has 81."
    );
    assert_eq!(
        refused(&mut operator, "peer 192.0.2.2 password hunter2 more").await.lines().nth(1),
        Some("                               ^^^^^^")
    );
}
