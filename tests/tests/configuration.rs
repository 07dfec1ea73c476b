//! Wrong configuration files and command lines: the message, its place, and the exit code.

use lab::{
    bmpd::{BmpdSetup, ExitReport, StartOptions, WRONG_CONFIGURATION},
    netns::Netns,
    process::ChildProgram,
    trial::TrialPlan,
};
use programs::{Built, Program};

fn run(configuration: impl AsRef<[u8]>, options: &StartOptions<'_>) -> (BmpdSetup, ExitReport) {
    let setup = BmpdSetup::new(&Netns::new("router"), configuration);
    let ended = setup.run(options);
    (setup, ended)
}

/// Asserts that bmpd and `bmpd check` refuse `configuration`, with a caret under `column` of
/// `line`.
fn is_refused(configuration: &str, line: usize, column: usize) {
    let (setup, ended) = run(configuration, &StartOptions::default());
    let at = format!("{}:{line}:{column}: error: ", setup.file().display());
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION), "{:#?}", ended.lines);
    let answer = ended.lines.iter().position(|answer| answer.starts_with(&at));
    let answer = answer.unwrap_or_else(|| panic!("no line starts with {at}\n{}", ended.lines.join("\n")));
    let source = configuration.lines().nth(line - 1).unwrap_or_default();
    let shown = ended.lines[answer..].iter().position(|shown| shown.ends_with(source) && !shown.starts_with(&at));
    let shown = answer + shown.unwrap_or_else(|| panic!("line {line} is not quoted:\n{}", ended.lines.join("\n")));
    let caret = ended.lines[shown + 1].find('^').expect("a caret is under the line");
    let indent = ended.lines[shown].len() - source.len();
    assert_eq!(caret, indent + column - 1, "the caret is under the word:\n{}", ended.lines.join("\n"));
}

const SESSION: &str = "bmp\n bmp-session 198.51.100.7\n  tcp connect port 11019\n";

#[test]
fn an_unknown_command_is_pointed_at() {
    is_refused("sysname edge1\nfrobnicate all\n", 2, 1);
}

#[test]
fn a_wrong_word_is_pointed_at() {
    is_refused(&format!("{SESSION}  connect-interface 2001:db8::1\n"), 4, 21);
}

#[test]
fn a_multicast_source_is_pointed_at() {
    is_refused(&format!("{SESSION}  connect-interface up2 224.0.0.1\n"), 4, 25);
}

#[test]
fn a_trailing_word_is_pointed_at() {
    is_refused(&format!("{SESSION}  connect-interface up 2 192.0.2.1 more\n"), 4, 36);
}

#[test]
fn an_interface_number_of_64_characters_is_pointed_at() {
    is_refused(&format!("{SESSION}  connect-interface up {}\n", "2".repeat(64)), 4, 24);
}

#[test]
fn an_invalid_port_is_pointed_at() {
    is_refused("bmp\n bmp-session 198.51.100.7\n  tcp connect port 70000\n", 3, 20);
}

#[test]
fn an_interface_in_the_bmp_view_is_pointed_at() {
    is_refused("bmp\n connect-interface up2\n", 2, 20);
}

#[test]
fn an_undo_with_another_value_is_refused() {
    is_refused(&format!("{SESSION}  connect-interface up2\n  undo connect-interface up1\n"), 5, 26);
}

#[test]
fn all_errors_of_a_file_are_reported_at_once() {
    let configuration =
        "sysname edge1\nfrobnicate\nbmp\n bmp-session nowhere\n bmp-session 198.51.100.7\n  tcp connect port 0\n";
    let (setup, ended) = run(configuration, &StartOptions::default());
    let file = setup.file();
    let prefix = format!("{}:", file.display());
    let errors: Vec<_> = ended.lines.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
    let lines: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
    assert_eq!(lines, ["2", "4", "6"], "{:#?}", ended.lines);
    assert!(errors.iter().all(|error| error.contains(": error: ")));
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION));
}

#[test]
fn a_binary_file_is_refused_without_a_crash() {
    let (setup, ended) = run([0x23, 0x0a, 0xff, 0xfe, 0x00, 0x80], &StartOptions::default());
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION), "{:?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains(&*setup.file().to_string_lossy())), "{:?}", ended.lines);
}

#[test]
fn a_missing_file_is_reported_in_one_line() {
    let setup = BmpdSetup::new(&Netns::new("router"), "");
    std::fs::remove_file(setup.file()).expect("the file is there");
    let ended = setup.run(&StartOptions::default());
    assert_eq!((ended.code, ended.lines.len()), (Some(WRONG_CONFIGURATION), 1), "{:?}", ended.lines);
    assert!(ended.lines[0].contains("bmpd.conf"), "{:?}", ended.lines);
}

#[test]
fn an_empty_file_is_a_valid_configuration() {
    let bmpd = lab::bmpd::Bmpd::start(&Netns::new("router"), "");
    assert_eq!(bmpd.sessions(), Vec::<serde_json::Value>::new());
    bmpd.terminate();
}

fn check(configuration: &str) -> ExitReport {
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, configuration);
    let mut command = netns.command(Built::at(setup.command(&StartOptions::default()).get_program()));
    command.arg("check").arg("--config").arg(setup.file());
    let mut process = ChildProgram::start(&mut command);
    let status = process.wait();
    ExitReport { code: status.code(), lines: process.lines() }
}

#[test]
fn check_exits_with_0_for_a_valid_file_and_1_for_a_wrong_one() {
    let right = check(&TrialPlan::session("connect-interface up2").configuration());
    assert_eq!(right.code, Some(0), "{:?}", right.lines);
    let wrong = check("bmp\n bmp-session nowhere\n");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.lines.iter().any(|line| line.contains("bmpd.conf:2:14: error: ")), "{:?}", wrong.lines);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let (_, ended) = run("", &StartOptions { arguments: &["--no-such-thing"], through: &[] });
    assert_eq!(ended.code, Some(2), "{:?}", ended.lines);
}

#[test]
fn without_root_one_line_names_the_missing_privilege() {
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, TrialPlan::default().configuration());
    // Nobody may read program and configuration, so only privilege is missing.
    let folder = setup.file().with_file_name("");
    let program = folder.join("bmpd");
    let command = setup.command(&StartOptions::default());
    std::fs::copy(command.get_program(), &program).expect("the program is copied");
    for (path, mode) in [(&folder, 0o777), (&setup.file(), 0o644), (&program, 0o755)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("root may set permissions");
    }
    let mut as_nobody = netns.command(Program::Setpriv);
    as_nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program).args(command.get_args());
    let mut process = ChildProgram::start(&mut as_nobody);
    let (status, lines) = (process.wait(), process.lines());
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("root") || lines[0].contains("CAP_"), "{lines:?}");
}
