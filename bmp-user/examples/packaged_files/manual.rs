//! Manual pages: `bmpd(8)` and `bmpctl(1)` from the arguments of the programs, `bmpd.conf(5)` from
//! the descriptors that the command reference is written from.

use std::io::{self, Write as _};

use bmp_user::{
    command_line::{BmpctlArguments, BmpdArguments},
    config::commands_reference,
};
use clap::CommandFactory as _;
use clap_mangen::Man;

/// Sections that the arguments do not have, in roff.
const BMPD_MORE: &str = "\
.SH SIGNALS
.TP
SIGHUP
Read the configuration file again. A wrong file changes nothing.
.TP
SIGTERM, SIGINT
End all sessions and take everything out of the kernel, unless a session is adopted or
.B persist
is configured.
.TP
SIGUSR1
End all sessions and leave everything in the kernel to the next bmpd, for a restart.
.SH EXIT STATUS
.TP
0
bmpd was told to end, or the subcommand has done its work.
.TP
1
bmpd cannot start, or the subcommand failed.
.TP
70
A fault of bmpd. What the kernel enforces stays.
.TP
78
The configuration file is wrong.
.SH ENVIRONMENT
.TP
NOTIFY_SOCKET, WATCHDOG_USEC
A service manager is told what bmpd does, see
.BR sd_notify (3).
.TP
RUST_LOG
What is logged:
.BR info ,
.BR debug .
.SH FILES
.TP
/etc/bmpd/bmpd.conf
The configuration of the service, see
.BR bmpd.conf (5).
.TP
/run/bmpd/bmpd.sock
The control socket.
.TP
/sys/fs/bpf/bmpd
What the kernel enforces.
.TP
/var/lib/bmpd
What the service remembers.
.SH SEE ALSO
.BR bmpctl (1),
.BR bmpd.conf (5)
";

const BMPCTL_MORE: &str = "\
.SH EXIT STATUS
.TP
0
Every command was carried out.
.TP
1
A command was refused, or the conversation failed.
.TP
2
The arguments are wrong, or
.B top
has no terminal.
.TP
3
There is no bmpd to speak to, or it has ended.
.TP
4
A display has found that the kernel does not enforce any more.
.SH SEE ALSO
.BR bmpd (8),
.BR bmpd.conf (5)
";

const CONF_HEAD: &str = "\
.SH NAME
bmpd.conf \\- the configuration of bmpd
.SH DESCRIPTION
The file has the commands below, one a line, as
.B bmpctl
prints and writes them. A line that begins with
.B #
is a comment. Indentation is for readers alone.
";

/// Returns `bmpd(8)`.
pub(crate) fn bmpd() -> io::Result<Vec<u8>> {
    page(BmpdArguments::command(), "8", BMPD_MORE)
}

/// Returns `bmpctl(1)`.
pub(crate) fn bmpctl() -> io::Result<Vec<u8>> {
    page(BmpctlArguments::command(), "1", BMPCTL_MORE)
}

/// Returns `bmpd.conf(5)`.
pub(crate) fn conf() -> Vec<u8> {
    format!("{}{CONF_HEAD}{}", title("bmpd.conf", "5"), roff(&without_origin(&commands_reference()))).into_bytes()
}

/// Returns the command reference without the paragraph about its own origin.
fn without_origin(reference: &str) -> String {
    let is_origin = |paragraph: &&str| paragraph.starts_with("This page is written from");
    reference.split("\n\n").filter(|paragraph| !is_origin(paragraph)).collect::<Vec<_>>().join("\n\n")
}

/// Returns the first line of a page.
fn title(name: &str, section: &str) -> String {
    format!(".TH {name} {section} \"\" \"bmpd {}\" \"bmpd\"\n", env!("CARGO_PKG_VERSION"))
}

/// Returns the manual page of a program, with its subcommands.
fn page(mut command: clap::Command, section: &str, more: &str) -> io::Result<Vec<u8>> {
    command.build();
    let name = command.get_name().to_owned();
    let man = Man::new(command.clone().disable_help_subcommand(true));
    let mut page = title(&name, section).into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        writeln!(page, ".SH \"{} {}\"", name.to_uppercase(), subcommand.get_name().to_uppercase())?;
        if let Some(about) = subcommand.get_long_about().or(subcommand.get_about()) {
            page.extend(roff(&about.to_string()).as_bytes());
        }
        let man = Man::new(subcommand.clone());
        let mut options = Vec::new();
        man.render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
        page.extend(options.as_bytes());
    }
    page.extend(more.as_bytes());
    Ok(page)
}

/// Returns a document of the repository in roff: headings, indented code, items of lists and
/// paragraphs.
fn roff(document: &str) -> String {
    let mut text = String::new();
    let mut lines = document.lines().peekable();
    let mut is_code = false;
    while let Some(line) = lines.next() {
        let code = line.strip_prefix("    ");
        if is_code && code.is_none() {
            text.push_str(".fi\n.RE\n");
        } else if !is_code && code.is_some() {
            text.push_str(".PP\n.RS\n.nf\n");
        }
        is_code = code.is_some();
        if let Some(code) = code {
            text.push_str(&format!("{}\n", escaped(code)));
        } else if line.starts_with("# ") {
            // The page has a title of its own.
        } else if let Some(heading) = line.strip_prefix("## ") {
            text.push_str(&format!(".SH \"{}\"\n", escaped(&heading.to_uppercase())));
        } else if let Some(heading) = line.strip_prefix("### ") {
            text.push_str(&format!(".SS \"{}\"\n", spans(heading)));
        } else if line.is_empty() {
            if lines.peek().is_some_and(|next| !next.starts_with(['#', ' ', '*'])) {
                text.push_str(".PP\n");
            }
        } else if let Some(item) = line.strip_prefix("* ") {
            text.push_str(&format!(".IP \\(bu 2\n{}\n", spans(item)));
        } else {
            text.push_str(&format!("{}\n", spans(line.trim_start())));
        }
    }
    if is_code {
        text.push_str(".fi\n.RE\n");
    }
    text
}

/// Returns a line with words in backquotes in bold type, and with `*` around a word in italics.
fn spans(line: &str) -> String {
    let mut text = String::new();
    for (number, part) in line.split('`').enumerate() {
        match number % 2 {
            1 => text.push_str(&format!("\\fB{}\\fR", escaped(part))),
            _ => text.push_str(&escaped(&part.replace('*', ""))),
        }
    }
    // A line that begins with a dot or a quote would be a request.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
