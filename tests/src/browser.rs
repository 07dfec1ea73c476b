//! A real browser, headless: Chromium, asked by the DevTools protocol over a pair of pipes.

use std::{
    cell::RefCell,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    time::Instant,
};

use nix::unistd::pipe;
use programs::Program;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::ChildProgram,
    wait::{PATIENCE, patience},
};

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    protocol: RefCell<DevTools>,
    /// Names the page in commands.
    session: String,
    _process: ChildProgram,
    _profile: TempDir,
}

#[derive(Debug)]
struct DevTools {
    commands: File,
    messages: BufReader<File>,
    last: u64,
    /// Events of the page since it was opened.
    events: Vec<Value>,
}

impl Browser {
    /// Opens `url` in a browser on the host.
    pub fn open(netns: &Netns, url: &str) -> Self {
        let profile = TempDir::with_prefix("lab-chromium-").expect("a temporary folder can be made");
        let (commands_out, commands_in) = pipe().expect("a pipe can be made");
        let (messages_out, messages_in) = pipe().expect("a pipe can be made");
        let mut command = netns.command(Program::Chromium);
        command
            .args(["--headless=new", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        let ends = [commands_out.as_raw_fd(), messages_in.as_raw_fd()];
        // SAFETY: only system calls run between fork and exec. Chromium reads commands from
        // descriptor 3 and writes to 4, so both ends are moved out of the way first.
        unsafe {
            command.pre_exec(move || {
                for (end, number) in [(ends[0], 103), (ends[1], 104), (103, 3), (104, 4)] {
                    if libc::dup2(end, number) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let process = ChildProgram::start(&mut command);
        drop((commands_out, messages_in));
        let file = |end: OwnedFd| File::from(end);
        let mut protocol = DevTools {
            commands: file(commands_in),
            messages: BufReader::new(file(messages_out)),
            last: 0,
            events: Vec::new(),
        };
        let page = protocol.ask(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            protocol.ask(None, "Target.attachToTarget", json!({ "targetId": page["targetId"], "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a page has a session").to_owned();
        let browser = Self { protocol: protocol.into(), session, _process: process, _profile: profile };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser.ask("Page.navigate", json!({ "url": url }));
        browser
    }

    /// Carries out a command of the DevTools protocol on the page.
    pub fn ask(&self, method: &str, parameters: Value) -> Value {
        self.protocol.borrow_mut().ask(Some(&self.session), method, parameters)
    }

    /// Returns the value of an expression of JavaScript in the page.
    ///
    /// # Panics
    /// If it throws.
    pub fn value(&self, expression: &str) -> Value {
        let answer = self.ask("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Presses a key and lets it go.
    pub fn press(&self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" { "\r" } else { "" };
            self.ask("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "text": text }));
        }
    }

    /// Returns a picture of the page as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let answer = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        from_base64(answer["data"].as_str().expect("a picture is text"))
    }

    /// Returns the events of the page with this name so far.
    pub fn events(&self, method: &str) -> Vec<Value> {
        let protocol = self.protocol.borrow();
        protocol.events.iter().filter(|event| event["method"] == method).map(|event| event["params"].clone()).collect()
    }
}

/// Decodes Base64 (RFC 4648 §4).
fn from_base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<_> = digits.collect();
    let of_group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(of_group).collect()
}

impl DevTools {
    /// Sends a command and returns its result. Messages end with a zero byte.
    fn ask(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        write!(self.commands, "{command}\0").expect("Chromium reads commands");
        let deadline = Instant::now() + patience(3 * PATIENCE);
        loop {
            assert!(Instant::now() < deadline, "Chromium does not answer {method}");
            let mut message = Vec::new();
            self.messages.read_until(0, &mut message).expect("Chromium answers");
            message.pop();
            let message: Value = serde_json::from_slice(&message).expect("Chromium answers with JSON");
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            if message.get("method").is_some() {
                self.events.push(message);
            }
        }
    }
}
