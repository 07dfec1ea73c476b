//! How many messages of each type.

use std::ops::{Add, AddAssign};

use crate::wire::bmp::MessageType;

/// A number of messages by BMP type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    assigned: [u64; MessageType::ALL.len()],
    unassigned: u64,
}

impl Counts {
    /// Counts `frames` more messages with this type byte.
    #[inline]
    pub fn record(&mut self, code: u8, frames: u64) {
        *self.assigned.get_mut(usize::from(code)).unwrap_or(&mut self.unassigned) += frames;
    }

    /// How many there are of a type.
    pub fn of(&self, message: MessageType) -> u64 {
        self.assigned.get(usize::from(message.code())).copied().unwrap_or_default()
    }

    /// How many there are with type bytes that are not assigned.
    pub fn unassigned(&self) -> u64 {
        self.unassigned
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.assigned.iter().sum::<u64>() + self.unassigned
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (mine, more) in self.assigned.iter_mut().zip(other.assigned) {
            *mine += more;
        }
        self.unassigned += other.unassigned;
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}
