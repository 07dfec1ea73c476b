//! The prompt, and ways to leave a view.

use super::*;

#[tokio::test]
async fn the_example_of_the_command_page_gives_its_prompts() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let table = [
        ("", "<HUAWEI>"),
        ("system-view", "[~HUAWEI]"),
        ("bmp", "[*HUAWEI-bmp]"),
        ("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
        ("connect-interface 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
    ];
    prompts(&mut operator, &table).await;
}

#[tokio::test]
async fn the_prompt_shows_the_view_and_pending_changes() {
    let device = TasklessDevice::new("");
    let mut operator = device.operator();
    let host = crate::sys::host_name();
    assert_eq!(ask(&mut operator, "", RequestMode::Run).await.prompt, format!("<{host}>"));
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let table = [
        ("sys", "[~HUAWEI]"),
        ("sysname edge1", "[*HUAWEI]"),
        ("commit", "[~edge1]"),
        ("sysname edge2", "[*edge1]"),
        ("sysname edge1", "[~edge1]"),
        ("bmp-relay frr", "[*edge1-bmp-relay-frr]"),
        ("clear configuration candidate", "[~edge1]"),
        ("bmp", "[*edge1-bmp]"),
        ("bmp-session 198.51.100.7 alias lab", "[*edge1-bmp-session-198.51.100.7-lab]"),
        ("bmp-session vpn-instance mgmt 2001:db8::7 al lab", "[*edge1-bmp-session-mgmt-2001:db8::7-lab]"),
        ("undo bmp-session vpn-instance mgmt 2001:db8::7 alias lab", "[*edge1-bmp]"),
        ("bmp-session 2001:db8::7 al lab", "[*edge1-bmp-session-2001:db8::7-lab]"),
        ("commit", "[~edge1-bmp-session-2001:db8::7-lab]"),
        ("undo bmp-session 2001:db8::7 alias lab", "[*edge1-bmp]"),
        ("quit", "[*edge1]"),
        ("commit", "[~edge1]"),
        ("return", "<edge1>"),
    ];
    prompts(&mut operator, &table).await;
}

#[tokio::test]
async fn an_operator_who_leaves_with_changes_is_asked() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let leave = async |operator: &mut Operator, answer: &str| {
        run(operator, "system-view").await;
        run(operator, "sysname edge1").await;
        let response = ask(operator, "quit", RequestMode::Interactive).await;
        assert!(matches!(response.answer, CommandAnswer::Question(_)), "{response:?}");
        ask(operator, answer, RequestMode::Interactive).await
    };
    let response = leave(&mut operator, "maybe").await;
    assert!(matches!(response.answer, CommandAnswer::Question(_)), "{response:?}");
    assert_eq!(ask(&mut operator, "c", RequestMode::Interactive).await.prompt, "[*HUAWEI]");
    let response = ask(&mut operator, "return", RequestMode::Interactive).await;
    assert!(matches!(response.answer, CommandAnswer::Question(_)), "{response:?}");
    let response = ask(&mut operator, "N", RequestMode::Interactive).await;
    assert_eq!((response.prompt.as_str(), response.pending), ("<HUAWEI>", false));
    assert_eq!(leave(&mut operator, "Y").await.prompt, "<edge1>");
    // Without a terminal there is a warning instead of a question.
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge2").await;
    let response = ask(&mut operator, "quit", RequestMode::Run).await;
    assert!(matches!(&response.answer, CommandAnswer::Done(said) if said.starts_with("Warning: ")), "{response:?}");
    assert!(response.pending);
    let response = ask(&mut operator, "quit", RequestMode::Run).await;
    assert_eq!(response.answer, CommandAnswer::Left(String::new()));
}
