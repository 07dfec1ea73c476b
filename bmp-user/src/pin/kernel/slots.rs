//! Which slots are taken.

use std::collections::VecDeque;

use bmp_ebpf::{Counters, DENY_OWN, NO_SLOT, Pin, PinKey};

/// One incarnation of a pin in the kernel tables. Whoever has it must give it back with
/// [`Datapath::free`](super::Datapath::free).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSlot {
    pub(super) number: u32,
    pub(super) generation: u32,
}

impl PinSlot {
    /// The slot of every pin where the kernel does not enforce.
    pub(super) const NONE: Self = Self { number: NO_SLOT, generation: 0 };

    /// Returns a denial without a slot: of every process, or of bmpd alone. Slot [`NO_SLOT`] counts
    /// what it denies ([`Datapath::stale`](super::Datapath::stale)).
    pub(in crate::pin) fn shared_denial(own_only: bool) -> Self {
        Self { number: if own_only { DENY_OWN } else { bmp_ebpf::DENY_ALL }, generation: 0 }
    }

    /// True if it is one of [`Self::shared_denial`].
    pub(in crate::pin) fn is_shared_denial(&self) -> bool {
        self.number >= DENY_OWN
    }

    /// Returns the number that the programs' log lines have; 0 where the kernel does not enforce.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// A slot that an earlier bmpd left, with the sockets under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The key that led to it last; all zeroes if none ever did.
    pub key: PinKey,
    /// The slot's number.
    pub number: u32,
    /// The pin in it.
    pub pin: Pin,
    /// True if the key still leads to it. Otherwise its pin had been replaced, and the earlier bmpd
    /// was about to free it.
    pub in_force: bool,
    /// What it had counted when this bmpd found it.
    pub counters: Counters,
}

/// Which slots of table `SLOTS` are taken, and their generations.
pub(super) struct SlotBook {
    /// Free numbers, the one freed longest ago first: a late packet of an earlier pin finds its
    /// slot empty rather than taken by another pin.
    free: VecDeque<u32>,
    /// By number.
    slots: Vec<SlotState>,
}

/// One slot of the book.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SlotState {
    /// Of the pin that is in it, or was in it last.
    generation: u32,
    is_taken: bool,
}

impl SlotBook {
    /// All of `count` slots are free, except slot [`NO_SLOT`].
    pub(super) fn new(count: u32) -> Self {
        let free = SlotState { generation: 0, is_taken: false };
        Self { free: (NO_SLOT + 1..count).collect(), slots: vec![free; count as usize] }
    }

    /// Returns how many slots there are, with slot [`NO_SLOT`].
    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// True if [`Self::take`] would return a slot.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a slot, with a generation that it has not had before; `None` if all are taken.
    pub(super) fn take(&mut self) -> Option<PinSlot> {
        let number = self.free.pop_front()?;
        let slot = self.slots.get_mut(number as usize)?;
        *slot = SlotState { generation: slot.generation.wrapping_add(1), is_taken: true };
        Some(PinSlot { number, generation: slot.generation })
    }

    /// True if the slot is taken, and still the one that was handed out.
    pub(super) fn holds(&self, slot: &PinSlot) -> bool {
        let taken = SlotState { generation: slot.generation, is_taken: true };
        self.slots.get(slot.number as usize) == Some(&taken)
    }

    /// Makes a slot free, if it is still the one that was handed out.
    pub(super) fn give_back(&mut self, slot: &PinSlot) {
        if self.holds(slot)
            && let Some(state) = self.slots.get_mut(slot.number as usize)
        {
            state.is_taken = false;
            self.free.push_back(slot.number);
        }
    }

    /// Enters a slot that an earlier bmpd left, and returns it as it was handed out.
    pub(super) fn restore(&mut self, number: u32, generation: u32, is_taken: bool) -> Option<PinSlot> {
        *self.slots.get_mut(number as usize)? = SlotState { generation, is_taken };
        if is_taken {
            self.free.retain(|&free| free != number);
        }
        Some(PinSlot { number, generation })
    }

    /// Returns the slot of this number, if it is taken.
    pub(super) fn held(&self, number: u32) -> Option<PinSlot> {
        let state = self.slots.get(number as usize)?;
        state.is_taken.then_some(PinSlot { number, generation: state.generation })
    }

    /// Returns the numbers of the taken slots, in order.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.slots).filter(|(_, state)| state.is_taken).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 64;

    #[test]
    fn the_slot_freed_longest_ago_is_taken_first_and_slot_0_never() {
        let mut slots = SlotBook::new(COUNT);
        let taken: Vec<PinSlot> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken.len(), COUNT as usize - 1);
        assert!(taken.iter().all(|slot| slot.number != NO_SLOT));
        for number in [7, 3] {
            slots.give_back(&PinSlot { number, generation: 1 });
        }
        assert_eq!(slots.take(), Some(PinSlot { number: 7, generation: 2 }));
        assert_eq!(slots.take(), Some(PinSlot { number: 3, generation: 2 }));
        assert_eq!(slots.take(), None);
    }

    #[test]
    fn a_slot_is_given_back_once_and_not_by_an_earlier_holder() {
        let mut slots = SlotBook::new(COUNT);
        let first = slots.take().unwrap();
        slots.give_back(&first);
        slots.give_back(&first);
        let others = std::iter::from_fn(|| slots.take()).count();
        assert_eq!(others, COUNT as usize - 1);
        slots.give_back(&first);
        assert!(slots.take().is_none(), "another pin has its number by now");
    }
}
