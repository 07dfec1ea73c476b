//! Which slots are taken, and which key leads to which.

use std::collections::{HashMap, VecDeque};

use bmp_ebpf::{NO_SLOT, PinKey, SLOTS_MAX};

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
    pub(super) fn new() -> Self {
        Self {
            free: (NO_SLOT + 1..SLOTS_MAX).collect(),
            slots: vec![(0, false); SLOTS_MAX as usize],
            keys: HashMap::new(),
        }
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

    /// Notes that the key leads to the slot.
    pub(super) fn lead(&mut self, key: PinKey, slot: &Slot) {
        self.keys.insert(key, slot.number);
    }

    /// Notes that the key leads nowhere.
    pub(super) fn forget(&mut self, key: &PinKey) {
        self.keys.remove(key);
    }

    /// Whether the key leads to the slot.
    pub(super) fn leads(&self, key: &PinKey, slot: &Slot) -> bool {
        self.keys.get(key) == Some(&slot.number)
    }

    /// The keys that lead to the slot.
    pub(super) fn keys_of(&self, slot: &Slot) -> Vec<PinKey> {
        self.keys.iter().filter(|&(_, &number)| number == slot.number).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_freed_longest_ago_is_taken_first_and_slot_0_never() {
        let mut slots = Slots::new();
        let taken: Vec<Slot> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken.len(), SLOTS_MAX as usize - 1);
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
        let mut slots = Slots::new();
        let first = slots.take().unwrap();
        slots.give_back(&first);
        slots.give_back(&first);
        let others = std::iter::from_fn(|| slots.take()).count();
        assert_eq!(others, SLOTS_MAX as usize - 1);
        slots.give_back(&first);
        assert!(slots.take().is_none(), "its number is somebody else's by now");
    }
}
