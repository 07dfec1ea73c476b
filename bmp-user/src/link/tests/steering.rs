use programs::Program;

use super::namespace::{in_namespace, ip};
use crate::link::{MARKS, MarkRoute, PRIORITY, PROTOCOL, Steer, SteeredMark, Steering};

const LAB: &str = "
    link set lo up
    link add east type veth peer name east-far
    link set east up
    link set east-far up
    addr add 192.0.2.1/24 dev east
    addr add 2001:db8:a::1/64 dev east nodad
    ";

const MARK: u32 = 0x626d_0001;

/// The rules and routes of bmpd as ip(8) prints them, both families, one a line.
fn shown() -> Vec<String> {
    let protocol = format!("proto {PROTOCOL}");
    let all = ["-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"].map(|command| {
        let output = Program::Ip.command().args(command.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let lines = all.iter().flat_map(|text| text.lines()).filter(|line| line.contains(&protocol));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn east() -> u32 {
    // SAFETY: the string ends with a NUL.
    unsafe { libc::if_nametoindex(c"east".as_ptr()) }
}

fn steer(next_hop: &str) -> Steer {
    Steer { mark: MARK, route: MarkRoute { next_hop: next_hop.parse().unwrap(), oif: east() } }
}

#[test]
fn packets_with_a_mark_are_steered_until_the_mark_is_removed() {
    in_namespace(|| async {
        ip(LAB);
        let mut steering = Steering::open().unwrap();
        for (next_hop, other) in [("192.0.2.2", "192.0.2.3"), ("2001:db8:a::2", "2001:db8:a::3")] {
            assert_eq!(steering.steered_marks().await.unwrap(), []);
            assert!(steering.is_free(MARK).await.unwrap());
            assert!(steering.add(&steer(next_hop)).await.unwrap());
            assert!(!steering.add(&steer(next_hop)).await.unwrap(), "it is all there");
            assert!(!steering.is_free(MARK).await.unwrap());
            let [rule, last, default] = &shown()[..] else { panic!("{:?}", shown()) };
            assert_eq!(rule, &format!("{PRIORITY}: from all fwmark {MARK:#x} lookup {MARK} proto {PROTOCOL}"));
            assert_eq!(last, &format!("901: from all fwmark {MARK:#x} unreachable proto {PROTOCOL}"));
            assert!(default.starts_with(&format!("default via {next_hop} dev east table {MARK}")), "{default}");
            let found = SteeredMark { mark: MARK, route: Some(steer(next_hop).route) };
            assert_eq!(steering.steered_marks().await.unwrap(), [found]);

            // A removed rule or route is added again, and a next hop is replaced.
            let family = if next_hop.contains(':') { "-6 " } else { "" };
            ip(&format!("{family}rule del priority {PRIORITY}\n{family}route flush table {MARK}"));
            assert!(steering.add(&steer(next_hop)).await.unwrap());
            assert_eq!(shown().len(), 3);
            ip(&format!("{family}rule del priority 901"));
            assert!(steering.add(&steer(next_hop)).await.unwrap());
            assert_eq!(shown().len(), 3);
            // What version 0.1 had instead of the second rule goes.
            ip(&format!("{family}route add unreachable default table {MARK} metric 4278198272 proto {PROTOCOL}"));
            assert!(!steering.add(&steer(next_hop)).await.unwrap());
            assert_eq!(shown().len(), 3);
            assert!(steering.add(&steer(other)).await.unwrap());
            let now = shown();
            assert!(now.len() == 3 && now[2].starts_with(&format!("default via {other} ")), "{now:?}");

            steering.remove(MARK).await.unwrap();
            assert_eq!(shown(), Vec::<String>::new());
            steering.remove(MARK).await.unwrap();
        }
    });
}

#[test]
fn foreign_rules_and_tables_block_a_mark_and_stay_untouched() {
    in_namespace(|| async {
        ip(LAB);
        let mut steering = Steering::open().unwrap();
        let last = *MARKS.end();
        ip(&format!(
            "rule add fwmark {MARK:#x} lookup 7 priority 100
             rule add fwmark 0x2/0x2 lookup 7 priority 100
             rule add fwmark 0x4/0x4 lookup 7 priority 1000
             -6 rule add fwmark {last:#x} lookup 7 priority 100
             route add 203.0.113.0/24 via 192.0.2.9 table {}",
            MARK + 7
        ));
        for (mark, free) in [(MARK, false), (MARK + 1, false), (MARK + 3, true), (MARK + 7, false), (last, false)] {
            assert_eq!(steering.is_free(mark).await.unwrap(), free, "{mark:#x}");
        }
        assert_eq!(steering.steered_marks().await.unwrap(), []);
        steering.add(&Steer { mark: MARK + 7, ..steer("192.0.2.2") }).await.unwrap();
        steering.remove(MARK + 7).await.unwrap();
        let output = Program::Ip.command().args(["route", "show", "table", &(MARK + 7).to_string()]).output();
        assert!(String::from_utf8(output.unwrap().stdout).unwrap().contains("203.0.113.0/24"));
    });
}

#[test]
fn a_refusal_of_the_kernel_is_an_error_with_its_error_number() {
    in_namespace(|| async {
        ip(LAB);
        let mut steering = Steering::open().unwrap();
        let route = MarkRoute { oif: 999, ..steer("192.0.2.2").route };
        let refused = steering.add(&Steer { mark: MARK, route }).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
        // A partial addition is found and removed.
        assert_eq!(steering.steered_marks().await.unwrap(), [SteeredMark { mark: MARK, route: None }]);
        steering.remove(MARK).await.unwrap();
        assert_eq!(shown(), Vec::<String>::new());
    });
}
