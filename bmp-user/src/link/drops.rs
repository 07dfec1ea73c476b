//! What an interface drops of what IP hands it: its queueing discipline, and its driver.

use std::{collections::BTreeMap, io};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{
    message::{self, Message, error_number, messages},
    netlink::{ANSWER_MAX, NLMSG_DONE, NLMSG_ERROR},
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;

/// Lengths of `struct nlmsghdr`, `struct ifinfomsg` and `struct tcmsg`.
const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;
const QDISC_LEN: usize = 20;

/// What was dropped of all that was sent by one interface, since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// By its root queueing discipline, since that is there.
    pub queue: u64,
    /// By its driver.
    pub device: u64,
}

/// Reads each interface once. Waits for the kernel in place, which answers at once: call it where waiting is allowed.
#[derive(Debug, Default)]
pub struct DropCounters {
    queues: Option<BTreeMap<u32, u64>>,
    known: BTreeMap<u32, Option<Drops>>,
}

impl DropCounters {
    /// Of the interface with this index; `None` where it is gone or the kernel does not say.
    pub fn of(&mut self, index: u32) -> Option<Drops> {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        let queues = self.queues.get_or_insert_with(|| queues().unwrap_or_default());
        let queue = queues.get(&index).copied().unwrap_or(0);
        let drops = device(index).ok().flatten().map(|device| Drops { queue, device });
        self.known.insert(index, drops);
        drops
    }
}

fn device(index: u32) -> io::Result<Option<u64>> {
    let mut link = [0; LINK_LEN];
    link[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut found = None;
    ask(RTM_GETLINK, NLM_F_ACK, &link, |message| {
        if message.kind == RTM_NEWLINK {
            found = found.or_else(|| message::dropped_by_device(message.payload));
        }
    })?;
    Ok(found)
}

/// Of all interfaces: the kernel has no question for one alone that it answers to nobody else.
fn queues() -> io::Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    ask(RTM_GETQDISC, NLM_F_DUMP, &[0; QDISC_LEN], |message| {
        if message.kind == RTM_NEWQDISC {
            found.extend(message::dropped_by_queue(message.payload));
        }
    })?;
    Ok(found)
}

fn ask(kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
    let length = (HEADER_LEN + body.len()) as u32;
    let mut request = Vec::with_capacity(length as usize);
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence and port number: one question on each socket.
    request.extend([0; 8]);
    request.extend(body);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut buffer = Vec::with_capacity(ANSWER_MAX);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for message in messages(&buffer) {
            match message.kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    return match error_number(message.payload) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                _ => each(message),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_drops_and_one_that_is_not_there_has_none() {
        let mut counters = DropCounters::default();
        // The loopback interface has no queue, and its driver drops nothing.
        assert_eq!(counters.of(1), Some(Drops::default()));
        assert_eq!(counters.of(u32::MAX >> 1), None);
    }
}
