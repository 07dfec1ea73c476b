//! The tags of sockets, written from user space.

use std::os::fd::AsRawFd;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{MapData, MapError, SkStorage};
use bmp_ebpf::{NO_SLOT, TAG_LISTENER, TAG_OWN, Tag, table};

use super::object::find;
use super::slots::{PinSlot, SlotBook};
use super::target::SocketOwner;

/// Table `TAGS`.
pub(super) struct TagTable(SkStorage<MapData, Tag>);

impl TagTable {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self(find(ebpf.take_map(table::TAGS), table::TAGS)?.try_into()?))
    }

    /// See [`Datapath::claim`](super::Datapath::claim).
    pub(super) fn claim(&mut self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        let process = std::process::id();
        let tag = Tag { slot: NO_SLOT, flags: TAG_OWN, process, ..Tag::default() };
        self.0.insert(socket, tag, 0).context("cannot mark the socket as bmpd's own")
    }

    /// See [`Datapath::claim_listener`](super::Datapath::claim_listener).
    pub(super) fn claim_listener(&mut self, socket: &impl AsRawFd, netns: u64) -> anyhow::Result<()> {
        let tag = Tag { slot: NO_SLOT, flags: TAG_OWN | TAG_LISTENER, netns, ..Tag::default() };
        self.0.insert(socket, tag, 0).context("cannot mark the socket as a listener")
    }

    /// See [`Datapath::tag`](super::Datapath::tag).
    pub(super) fn tag(
        &mut self,
        socket: &impl AsRawFd,
        slot: &PinSlot,
        book: &SlotBook,
        owner: SocketOwner,
    ) -> anyhow::Result<()> {
        let (flags, process) = match owner {
            SocketOwner::Bmpd => (TAG_OWN, std::process::id()),
            SocketOwner::Process(id) => (0, id),
        };
        let tag = Tag { slot: slot.number, generation: slot.generation, flags, process, netns: 0 };
        require_taken(slot, book)?;
        self.0.insert(socket, tag, 0).with_context(|| format!("cannot put the socket under slot {}", slot.number))
    }

    /// See [`Datapath::retag`](super::Datapath::retag).
    pub(super) fn retag(
        &mut self,
        socket: &impl AsRawFd,
        from: &PinSlot,
        to: &PinSlot,
        book: &SlotBook,
    ) -> anyhow::Result<bool> {
        let Some(tag) = self.of(socket)?.filter(|tag| is_under(tag, from)) else { return Ok(false) };
        require_taken(to, book)?;
        let tag = Tag { slot: to.number, generation: to.generation, ..tag };
        self.0.insert(socket, tag, 0).with_context(|| format!("cannot put a socket under slot {}", to.number))?;
        Ok(true)
    }

    /// True if the socket is under this slot.
    pub(super) fn is_under(&self, socket: &impl AsRawFd, slot: &PinSlot) -> anyhow::Result<bool> {
        Ok(self.of(socket)?.is_some_and(|tag| is_under(&tag, slot)))
    }

    /// True if the socket is under any slot.
    pub(super) fn is_held(&self, socket: &impl AsRawFd) -> anyhow::Result<bool> {
        Ok(self.of(socket)?.is_some_and(|tag| tag.slot != NO_SLOT))
    }

    fn of(&self, socket: &impl AsRawFd) -> anyhow::Result<Option<Tag>> {
        match self.0.get(socket, 0) {
            Ok(tag) => Ok(Some(tag)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("cannot read a socket's tag"),
        }
    }
}

fn is_under(tag: &Tag, slot: &PinSlot) -> bool {
    (tag.slot, tag.generation) == (slot.number, slot.generation)
}

fn require_taken(slot: &PinSlot, book: &SlotBook) -> anyhow::Result<()> {
    if !book.holds(slot) {
        bail!("slot {} is free: no socket can be put under it", slot.number);
    }
    Ok(())
}
