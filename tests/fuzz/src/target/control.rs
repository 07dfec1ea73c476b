//! A client's input on the control socket: requests, and the command lines in them.

use std::path::Path;

use bmp_user::{
    config::{
        CandidateEditor, CommandView, Config, ConfigStore, ParsedCommand, StartLimits, next_words, parse_file,
        parse_line, print,
    },
    control::{LINE_MAX, Request, RequestMode},
};

use crate::memory::within;

/// Reads lines, each a request or a command line. An operator walks through the views and edits a
/// candidate, which must be the same after printing and parsing. Nothing is committed, displayed or
/// reset.
pub fn control(lines: &[u8]) {
    if lines.len() <= LINE_MAX {
        within(1 << 20, 4096, lines.len(), || play(lines));
    }
}

fn play(lines: &[u8]) {
    let mut editor = CandidateEditor::new(ConfigStore::new(
        Path::new("/nonexistent/bmpd.conf"),
        Config::default(),
        StartLimits::sessions(usize::MAX),
    ));
    for line in lines.split(|byte| *byte == b'\n') {
        let request = match serde_json::from_slice::<Request>(line) {
            Ok(request) => {
                let sent = serde_json::to_vec(&request).expect("a request has a JSON form");
                assert_eq!(serde_json::from_slice::<Request>(&sent).ok().as_ref(), Some(&request));
                request
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                let Ok(command) = std::str::from_utf8(line) else { continue };
                Request { command: command.to_owned(), ..Request::default() }
            }
        };
        match request.mode {
            RequestMode::Help | RequestMode::Complete => help(&editor, &request.command),
            RequestMode::Run | RequestMode::Interactive | RequestMode::Repeat => run(&mut editor, &request.command),
        }
    }
    let printed = print(editor.candidate());
    assert_eq!(parse_file("printed", &printed).as_ref(), Ok(editor.candidate()), "{printed}");
}

/// Checks the help: every next word has a text and an explanation.
fn help(editor: &CandidateEditor, line: &str) {
    let Ok(next) = next_words(editor.view(), line) else { return };
    assert!(next.words.iter().all(|word| !word.text.is_empty() && !word.help.is_empty()));
    let _ = next.to_string();
}

fn run(editor: &mut CandidateEditor, line: &str) {
    let before = (editor.view().clone(), editor.candidate().clone());
    let command = match parse_line(editor.view(), line, true) {
        Ok(command) => command,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match command {
        ParsedCommand::Display(_, Some(filter)) => drop(filter.apply("one\ntwo\n")),
        ParsedCommand::Display(_, None)
        | ParsedCommand::Reset(_)
        | ParsedCommand::ResetBgpPeer(_)
        | ParsedCommand::Debugging(_)
        | ParsedCommand::Candidate(_)
        | ParsedCommand::Save
        | ParsedCommand::Nothing => {}
        ParsedCommand::Quit if *editor.view() == CommandView::User => {}
        ParsedCommand::Configure(_) | ParsedCommand::Quit | ParsedCommand::Return | ParsedCommand::SystemView => {
            if let Err(error) = editor.apply(&command) {
                assert!(!error.to_string().is_empty());
                assert_eq!(
                    (editor.view(), editor.candidate()),
                    (&before.0, &before.1),
                    "a refused command changed something"
                );
            }
        }
    }
    assert!(!editor.prompt("fuzz").is_empty());
}
