//! Whole files.

use std::{fs, io};

use super::super::*;

const DESIGN: &str = "\
#
sysname edge1
#
interface-alias eth1 GigabitEthernet0/1/0
#
bgp 65000
 router-id 10.7.0.1
 peer 10.7.0.2 as-number 65001
 #
 ipv4-family unicast
  peer 10.7.0.2 enable
#
bmp-relay frr
 listen 127.0.0.1 port 5000
#
bmp
 statistics-timer 3600
 connect-interface 192.0.2.1
 #
 bmp-session 198.51.100.7
  tcp connect port 11019
  connect-interface GigabitEthernet0/1/0 203.0.113.9
  #
  monitor public
   route-mode ipv4-family unicast adj-rib-in pre-policy
 #
 bmp-session 198.51.100.8 alias lab
  tcp connect port 11020
#
return
";

/// Where the errors of a file are and what they say.
fn errors(text: &str) -> Vec<String> {
    let errors = parse_file("f", text).expect_err(text);
    errors.iter().map(|error| error.to_string().lines().next().unwrap_or_default().to_owned()).collect()
}

fn assert_errors(text: &str, expected: &[(&str, &str)]) {
    let errors = errors(text);
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, (place, message)) in errors.iter().zip(expected) {
        assert!(error.starts_with(&format!("f:{place}: error: ")) && error.contains(message), "{error}");
    }
}

#[test]
fn a_printed_configuration_is_what_the_file_holds() {
    let config = parse_file("f", DESIGN).unwrap();
    assert_eq!(print(&config), DESIGN);
    assert_eq!(config.to_string(), DESIGN);
    assert_eq!(config.bmp.sessions.len(), 2);
}

#[test]
fn indentation_separators_and_line_ends_are_for_people() {
    let config = parse_file("f", DESIGN).unwrap();
    let bare: Vec<&str> = DESIGN.lines().map(str::trim).filter(|line| *line != "#" && *line != "return").collect();
    let windows = format!("\u{feff}{}", DESIGN.replace('\n', "\r\n"));
    let commented = DESIGN.replace(" #\n", "\n\t# the next station\n").replace("  ", "\t");
    for text in [bare.join("\n"), windows, commented] {
        assert_eq!(parse_file("f", &text).as_ref(), Ok(&config), "{text}");
    }
}

#[test]
fn an_empty_file_is_the_default_configuration() {
    for text in ["", "#\nreturn\n", "\n\n", "return", "bmp\nundo bmp\n"] {
        assert_eq!(parse_file("f", text), Ok(Config::default()));
    }
    assert_eq!(print(&Config::default()), "#\nreturn\n");
}

#[test]
fn quit_leaves_a_view() {
    let config = parse_file("f", "bmp\nbmp-session 198.51.100.7\nquit\nconnect-interface 192.0.2.1\n").unwrap();
    assert_eq!(config.bmp.connect_interface, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn all_errors_come_at_once_with_their_lines() {
    let text = "sysname\n#\nbmp\n connect-interface eth1\n bmp-session 198.51.100.7\n  tcp connect port 0\n";
    let all = parse_file("/etc/bmpd.conf", text).unwrap_err();
    let all: Vec<_> = all.iter().map(CommandError::to_string).collect();
    assert_eq!(
        all,
        [
            "/etc/bmpd.conf:1:8: error: the command is not complete: expected this device's name\nsysname\n       ^",
            "/etc/bmpd.conf:4:20: error: `eth1` is not an IPv4 address: the bmp view takes the source address of IPv4 \
             sessions alone; name an interface in a bmp-session view\n connect-interface eth1\n                   ^^^^",
            "/etc/bmpd.conf:6:20: error: a port is a number from 1 to 65535\n  tcp connect port 0\n                   ^",
        ]
    );
}

#[test]
fn a_wrong_session_line_takes_its_commands_with_it() {
    let text = "bmp\n bmp-session 224.0.0.1\n  tcp connect port 1\n  connect-interface eth1\n bmp-session 198.51.100.7\n  tcp connect port 0\n";
    assert_errors(text, &[("2:14", "multicast"), ("6:20", "1 to 65535")]);
    // Also where nothing is indented, and what is wrong in it by itself is still told.
    let text = "bmp\nbmp-session nowhere\ntcp connect port 1\nconnect-interface eth 1 x\nquit\nquit\nsysname a b\n";
    assert_errors(text, &[("2:13", "the station's address"), ("4:25", "not an IP address"), ("7:11", "ends before")]);
    assert_errors("bmp-relay\nlisten ::1 port 5000\nsysname a\n", &[("1:10", "a name for this input")]);
}

#[test]
fn a_misspelt_command_takes_what_is_in_its_view_with_it() {
    for indent in ["", " "] {
        let text = format!(
            "bmp\n{indent}bmp-sesion 198.51.100.7\n{indent}{indent}tcp connect port 1\n{indent}{indent}connect-interface eth1\nquit\nquit\nsysname\n"
        );
        let column = 1 + indent.len();
        assert_errors(&text, &[(&format!("2:{column}"), "`bmp-session`?"), ("7:8", "not complete")]);
    }
    let text = "isis 65000\n router-id 10.7.0.1\n peer 10.7.0.2 as-number 65001\n #\n ipv4-family unicast\n  peer 10.7.0.2 enable\n#\nbmp\n";
    assert_errors(text, &[("1:1", "unknown command `isis`")]);
    let text = "segment-routing\n mapping-server\n  prefix x\nospf 1\nbmp\n connect-interface 192.0.2.1\n";
    assert_errors(text, &[("1:1", "unknown command `segment-routing`"), ("4:1", "unknown command `ospf`")]);
    let text = "bmp\nneighbor 198.51.100.7\ntcp connect port 1\nconnect-interface eth1\nquit\nquit\n";
    assert_errors(text, &[("2:1", "unknown command")]);
}

#[test]
fn a_command_without_its_view_is_told_once() {
    let text = "bmp\ntcp connect port 1\nconnect-interface eth1\nbmp-session 198.51.100.7\n";
    assert_errors(text, &[("2:1", "is a command of the bmp-session view")]);
    let text = "connect-interface 192.0.2.1\nbmp-session 198.51.100.7\n tcp connect port 1\n";
    assert_errors(text, &[("1:1", "is a command of the bmp view")]);
}

#[test]
fn two_sessions_to_one_station_and_port_are_an_error_at_the_second_port() {
    let text = "bmp\n bmp-session 198.51.100.7\n  tcp connect port 1\n bmp-session 198.51.100.7 alias a\n  tcp connect port 1\n";
    assert_errors(text, &[("5:20", "198.51.100.7 connects to port 1")]);
}

#[test]
fn a_file_with_a_mistyped_address_is_refused_there() {
    let text = "bmp\n bmp-session 198.51.100.7\n  connect-interface 10.8.0\n  connect-interface e1 e0\n bmp-session 198.51.100\n  shutdown\n";
    let dotted = "is not a dotted-decimal address";
    assert_errors(text, &[("3:21", dotted), ("4:24", "no interface number"), ("5:14", dotted)]);
}

#[test]
fn keywords_are_whole_in_a_file() {
    assert_errors("sysn edge1\n", &[("1:1", "in full, `sysname`?")]);
    assert_errors("bmp\n bmp-session 198.51.100.7 al lab\n", &[("2:27", "`alias`")]);
}

#[test]
fn a_file_configures_and_does_nothing_else() {
    assert_errors("display bmp session\n", &[("1:1", "no part of a configuration")]);
    assert_errors("quit\n", &[("1:1", "no view to leave")]);
    assert_errors("#\nreturn\n# the end\n\nsysname a\nsysname b\n", &[("5:1", "`return` has ended")]);
}

#[test]
fn a_file_is_loaded_or_told_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bmpd.conf");
    let load_bytes = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        load(&path, &KeyFile::unused())
    };
    let says = |outcome: Result<Config, LoadError>, text: &str| {
        let said = outcome.unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}:", path.display())) && said.contains(text), "{said}");
    };
    assert_eq!(load_bytes(DESIGN.as_bytes()).unwrap(), parse_file("f", DESIGN).unwrap());
    says(load_bytes(b"sysname a\nsysname \xff\n"), ":2:1: error: not UTF-8");
    says(load_bytes(b"sysname a\n\nsys\0name\n"), ":3:1: error: NUL byte");
    says(load_bytes(&vec![b'#'; (1 << 20) + 1]), "larger than 1048576 bytes");
    assert_eq!(load_bytes(&vec![b'#'; 1 << 20]).unwrap(), Config::default());
    says(load_bytes(b"bmp x\nsysname\n"), ":2:8: error: ");
    fs::remove_file(&path).unwrap();
    says(load(&path, &KeyFile::unused()), "cannot read the configuration file");
    let directory = load(folder.path(), &KeyFile::unused()).unwrap_err();
    assert!(matches!(&directory, LoadError::Unreadable { source, .. } if source.kind() == io::ErrorKind::IsADirectory));
}
