//! Which slots are taken, and which key leads to which.

use std::collections::{HashMap, VecDeque};

use bmp_ebpf::{DENY_OWN, NO_SLOT, PinKey};

use super::Slot;

/// The user-space book of table `SLOTS`.
pub(super) struct Slots {
    /// Free slot numbers, the one freed longest ago first, so that a late packet of an earlier pin finds its slot empty rather than
    /// somebody else's.
    free: VecDeque<u32>,
    /// By slot number: the generation that it holds or held last, and whether it is taken.
    slots: Vec<(u32, bool)>,
    /// What table `PINS` says.
    keys: HashMap<PinKey, u32>,
}

impl Slots {
    /// All of `count` slots are free, but for slot [`NO_SLOT`].
    pub(super) fn new(count: u32) -> Self {
        Self { free: (NO_SLOT + 1..count).collect(), slots: vec![(0, false); count as usize], keys: HashMap::new() }
    }

    /// How many there are, slot [`NO_SLOT`] among them.
    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether one is free.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a slot, with a generation that it has not had before; `None` if every slot is taken.
    pub(super) fn take(&mut self) -> Option<Slot> {
        let number = self.free.pop_front()?;
        let (generation, taken) = self.slots.get_mut(number as usize)?;
        *generation = generation.wrapping_add(1);
        *taken = true;
        Some(Slot { number, generation: *generation })
    }

    /// Whether the slot is taken and still the one that was handed out.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        self.slots.get(slot.number as usize) == Some(&(slot.generation, true))
    }

    /// Makes a slot free.
    pub(super) fn give_back(&mut self, slot: &Slot) {
        if self.holds(slot)
            && let Some((_, taken)) = self.slots.get_mut(slot.number as usize)
        {
            *taken = false;
            self.free.push_back(slot.number);
        }
    }

    /// Enters what an earlier bmpd left in a slot, and returns the slot as it was handed out.
    pub(super) fn restore(&mut self, number: u32, generation: u32, taken: bool) -> Option<Slot> {
        *self.slots.get_mut(number as usize)? = (generation, taken);
        if taken {
            self.free.retain(|&free| free != number);
        }
        Some(Slot { number, generation })
    }

    /// The slot of this number, if it is taken.
    pub(super) fn held(&self, number: u32) -> Option<Slot> {
        let &(generation, taken) = self.slots.get(number as usize)?;
        taken.then_some(Slot { number, generation })
    }

    /// Notes that the key leads to the slot of this number.
    pub(super) fn lead(&mut self, key: PinKey, number: u32) {
        self.keys.insert(key, number);
    }

    /// Notes that the key leads nowhere.
    pub(super) fn forget(&mut self, key: &PinKey) {
        self.keys.remove(key);
    }

    /// Which key leads to which slot.
    pub(super) fn keys(&self) -> &HashMap<PinKey, u32> {
        &self.keys
    }

    /// The numbers of the slots that are taken, in order.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.slots).filter(|(_, (_, taken))| *taken).map(|(number, _)| number)
    }

    /// The slot that the key leads to.
    pub(super) fn number_of(&self, key: &PinKey) -> Option<u32> {
        self.keys.get(key).copied()
    }

    /// The keys that lead to slots that are not taken: no order of writing leaves any.
    pub(super) fn keys_to_no_pin(&self) -> Vec<PinKey> {
        let empty = |&(_, &number): &(&PinKey, &u32)| number < DENY_OWN && self.held(number).is_none();
        self.keys.iter().filter(empty).map(|(key, _)| *key).collect()
    }

    /// The keys that are denied without a slot.
    pub(super) fn keys_denied(&self) -> impl Iterator<Item = PinKey> {
        self.keys.iter().filter(|(_, number)| **number >= DENY_OWN).map(|(key, _)| *key)
    }

    /// Whether the key leads to the slot.
    pub(super) fn leads(&self, key: &PinKey, slot: &Slot) -> bool {
        self.number_of(key) == Some(slot.number)
    }

    /// The keys that lead to the slot.
    pub(super) fn keys_of(&self, slot: &Slot) -> Vec<PinKey> {
        self.keys.iter().filter(|&(_, &number)| number == slot.number).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 64;

    #[test]
    fn the_slot_freed_longest_ago_is_taken_first_and_slot_0_never() {
        let mut slots = Slots::new(COUNT);
        let taken: Vec<Slot> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken.len(), COUNT as usize - 1);
        assert!(taken.iter().all(|slot| slot.number != NO_SLOT));
        for number in [7, 3] {
            slots.give_back(&Slot { number, generation: 1 });
        }
        assert_eq!(slots.take(), Some(Slot { number: 7, generation: 2 }));
        assert_eq!(slots.take(), Some(Slot { number: 3, generation: 2 }));
        assert_eq!(slots.take(), None);
    }

    #[test]
    fn a_slot_is_given_back_once_and_not_by_an_earlier_holder() {
        let mut slots = Slots::new(COUNT);
        let first = slots.take().unwrap();
        slots.give_back(&first);
        slots.give_back(&first);
        let others = std::iter::from_fn(|| slots.take()).count();
        assert_eq!(others, COUNT as usize - 1);
        slots.give_back(&first);
        assert!(slots.take().is_none(), "its number is somebody else's by now");
    }
}
