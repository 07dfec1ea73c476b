//! Finds out from NLRI how they are written: with path identifiers or without, with one label or
//! with stacks of labels.
//!
//! The OPENs of a session say so too, but some routers report NLRI that are written differently.
//! NLRI that are read the wrong way rarely come out even. If they do, they look odd: path
//! identifiers are small numbers and look like several default routes.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::{
    Family, Form, PATH_ID,
    nlri::{identity, nlri, without_trailing_bits},
};

/// A way to read NLRI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The form, which says whether there are stacks of labels.
    pub form: Form,
    /// Whether each NLRI has a path identifier (RFC 7911 §3).
    pub path_ids: bool,
}

/// How well NLRI read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The last NLRI is not whole.
    Uneven,
    /// They are whole, and some are unlikely.
    Odd,
    /// They are whole, and none is unlikely.
    Good,
}

impl Reading {
    /// The reading of a family. A family of unknown form has [`Form::Whole`].
    pub fn of(family: Family, path_ids: bool, stack: bool) -> Self {
        match Form::of(family) {
            Some(form) => Self { form: form.with_stack(stack), path_ids },
            None => Self { form: Form::Whole, path_ids: false },
        }
    }

    /// The same reading for withdrawals.
    #[must_use]
    pub fn withdrawn(self) -> Self {
        Self { form: self.form.withdrawn(), ..self }
    }

    /// True if all NLRI are whole.
    #[inline]
    pub fn is_even(self, items: &[u8]) -> bool {
        nlri(self.form, self.path_ids, items).all(|item| item.is_ok())
    }

    /// True if all NLRI are whole, and none is empty except for one default route. Nearly the same
    /// as a good [`Reading::fit`], and quicker.
    #[inline]
    pub fn is_likely(self, items: &[u8]) -> bool {
        let (mut good, mut empty) = (true, 0);
        let least = if self.path_ids { PATH_ID } else { 0 } + self.form.least();
        for item in nlri(self.form, self.path_ids, items) {
            good &= item.is_ok();
            empty += usize::from(item.is_ok_and(|item| item.len() <= least));
        }
        good && empty <= usize::from(matches!(self.form, Form::Prefix { .. }))
    }

    /// How well NLRI read.
    pub fn fit(self, items: &[u8]) -> Fit {
        let mut seen = HashSet::with_hasher(RandomState::default());
        let mut fit = Fit::Good;
        for item in nlri(self.form, self.path_ids, items) {
            let Ok(item) = item else { return Fit::Uneven };
            // Routers write zero for bits that mean nothing, and no route twice into an UPDATE.
            if without_trailing_bits(self.form, self.path_ids, item).is_some()
                || self.is_empty(item)
                || !seen.insert(identity(self.form, self.path_ids, item))
            {
                fit = Fit::Odd;
            }
        }
        fit
    }

    /// Keeps the readings with the best fit for a field of NLRI. Keeps all of them, and returns
    /// false, if none can read the field.
    pub fn keep_best(candidates: &mut Vec<Self>, items: &[u8], withdrawn: bool) -> bool {
        let of = |reading: &Self| if withdrawn { reading.withdrawn() } else { *reading };
        match candidates.iter().filter(|reading| of(reading).is_even(items)).count() {
            0 => return false,
            1 => candidates.retain(|reading| of(reading).is_even(items)),
            _ => {
                let best = candidates.iter().map(|reading| of(reading).fit(items)).max();
                candidates.retain(|reading| Some(of(reading).fit(items)) == best);
            }
        }
        true
    }

    /// True if an NLRI is empty in a form where none may be.
    fn is_empty(self, item: &[u8]) -> bool {
        let rest = item.get(if self.path_ids { PATH_ID } else { 0 }..).unwrap_or_default();
        match self.form {
            Form::Prefix { .. } | Form::Whole => false,
            // The route of a VPN has at least a route distinguisher.
            Form::Labeled { most, .. } => {
                const RD_BITS: u8 = 64;
                let is_of_vpn = most != 32 && most != 128;
                is_of_vpn && identity(self.form, self.path_ids, item).bits() < RD_BITS
            }
            Form::Flow | Form::Evpn | Form::Keyed | Form::Mup => rest.len() <= self.form.least(),
            Form::Typed { kind, .. } => {
                let kind = usize::from(kind);
                rest.len() <= self.form.least()
                    || (kind > 0 && rest.get(..kind).is_some_and(|kind| kind.iter().all(|byte| *byte == 0)))
            }
        }
    }
}
