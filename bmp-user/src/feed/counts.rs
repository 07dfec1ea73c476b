//! Numbers of frames by type.

use std::ops::{Add, AddAssign};

use crate::wire::bmp::MessageType;

/// Numbers of frames by BMP message type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    assigned: [u64; MessageType::ALL.len()],
    unassigned: u64,
}

impl FrameCounts {
    /// Counts `frames` more frames with this type byte.
    #[inline]
    pub fn record(&mut self, code: u8, frames: u64) {
        *self.assigned.get_mut(usize::from(code)).unwrap_or(&mut self.unassigned) += frames;
    }

    /// The number of frames of a type.
    pub fn of(&self, message: MessageType) -> u64 {
        self.assigned.get(usize::from(message.code())).copied().unwrap_or_default()
    }

    /// The number of frames whose type bytes are not assigned.
    pub fn unassigned(&self) -> u64 {
        self.unassigned
    }

    /// Returns the frames that were counted after an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counted = *self;
        for (mine, before) in counted.assigned.iter_mut().zip(earlier.assigned) {
            *mine = mine.saturating_sub(before);
        }
        counted.unassigned = counted.unassigned.saturating_sub(earlier.unassigned);
        counted
    }

    /// The number of all frames.
    pub fn total(&self) -> u64 {
        self.assigned.iter().sum::<u64>() + self.unassigned
    }
}

impl AddAssign for FrameCounts {
    fn add_assign(&mut self, other: Self) {
        for (mine, more) in self.assigned.iter_mut().zip(other.assigned) {
            *mine += more;
        }
        self.unassigned += other.unassigned;
    }
}

impl Add for FrameCounts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}
