//! Counts the packets that an interface drops after IP has handed them over: in its queueing
//! discipline and in its driver.

use std::{collections::BTreeMap, io};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use socket2::SockRef;

use super::{
    message::{self, QueueDrops, RawMessage, error_number, messages},
    netlink::{ANSWER_MAX, ANSWER_TIME, NLMSG_DONE, NLMSG_ERROR},
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;

/// Lengths of `struct nlmsghdr`, `struct ifinfomsg` and `struct tcmsg`, in bytes.
const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;
const QDISC_LEN: usize = 20;

/// Packets that one interface dropped instead of sending, since the interface exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Dropped by the root queueing discipline, since that discipline exists. `None` where the
    /// kernel tells of none.
    pub queue: Option<u64>,
    /// Dropped by the driver.
    pub device: u64,
}

/// Reads the drop counters of each interface at most once. It blocks for a netlink request; call it
/// only where blocking is allowed.
#[derive(Debug, Default)]
pub struct DropCounters {
    queues: Option<BTreeMap<u32, u64>>,
    known: BTreeMap<u32, Option<Drops>>,
}

impl DropCounters {
    /// Returns the drops of the interface with this index. `None` if the interface is gone or the
    /// kernel does not answer.
    pub fn drops(&mut self, index: u32) -> Option<Drops> {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        let queues = self.queues.get_or_insert_with(|| queues().unwrap_or_default());
        let queue = queues.get(&index).copied();
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

/// Returns the drops of every root queueing discipline by interface index. Netlink offers no
/// request for a single interface.
fn queues() -> io::Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    ask(RTM_GETQDISC, NLM_F_DUMP, &[0; QDISC_LEN], |message| {
        if message.kind == RTM_NEWQDISC {
            let drops = message::dropped_by_queue(message.payload);
            found.extend(drops.map(|QueueDrops { interface, packets }| (interface, packets)));
        }
    })?;
    Ok(found)
}

fn ask(kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(RawMessage<'_>)) -> io::Result<()> {
    let length = (HEADER_LEN + body.len()) as u32;
    let mut request = Vec::with_capacity(length as usize);
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence and port number stay zero, because each socket carries a single request.
    request.extend([0; 8]);
    request.extend(body);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIME))?;
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
    fn only_an_existing_interface_has_drops() {
        let mut counters = DropCounters::default();
        // The loopback interface's discipline and its driver drop nothing.
        assert_eq!(counters.drops(1), Some(Drops { queue: Some(0), device: 0 }));
        assert_eq!(counters.drops(u32::MAX >> 1), None);
    }
}
