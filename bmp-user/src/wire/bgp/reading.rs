//! How NLRI are to be read, as far as they show it themselves: with path identifiers or without, with one label or with stacks of labels.
//!
//! The OPENs of a session say so too, but routers report NLRI that are written otherwise. NLRI that are read the wrong way rarely come out even.
//! Where they do, they are odd: the small numbers that path identifiers are look like several default routes.

use std::collections::HashSet;

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
    /// They do not come out even.
    Uneven,
    /// They come out even, and there are some that no router is likely to write.
    Odd,
    /// They come out even, and there is nothing odd about them.
    Good,
}

impl Reading {
    /// How NLRI of a family are read; one that is not known has its NLRI [whole](Form::Whole).
    pub fn of(family: Family, path_ids: bool, stack: bool) -> Self {
        match Form::of(family) {
            Some(form) => Self { form: form.with_stack(stack), path_ids },
            None => Self { form: Form::Whole, path_ids: false },
        }
    }

    /// The same for withdrawals.
    #[must_use]
    pub fn withdrawn(self) -> Self {
        Self { form: self.form.withdrawn(), ..self }
    }

    /// Whether NLRI come out even.
    #[inline]
    pub fn is_even(self, items: &[u8]) -> bool {
        nlri(self.form, self.path_ids, items).all(|item| item.is_ok())
    }

    /// Whether NLRI come out even, and none is empty but for one default route: nearly as [`Reading::fit`] is good, and quicker.
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
        let mut seen = HashSet::new();
        let mut fit = Fit::Good;
        for item in nlri(self.form, self.path_ids, items) {
            let Ok(item) = item else { return Fit::Uneven };
            // Bits that mean nothing are zero, and no route is in an UPDATE twice.
            if without_trailing_bits(self.form, self.path_ids, item).is_some()
                || self.is_empty(item)
                || !seen.insert(identity(self.form, self.path_ids, item))
            {
                fit = Fit::Odd;
            }
        }
        fit
    }

    /// Keeps of these readings the ones by which a field of NLRI, announced or withdrawn, reads best. All of them if it reads by none: false then.
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

    /// Whether an NLRI says nothing, where each has to say something.
    fn is_empty(self, item: &[u8]) -> bool {
        let rest = item.get(if self.path_ids { PATH_ID } else { 0 }..).unwrap_or_default();
        match self.form {
            Form::Prefix { .. } | Form::Whole => false,
            // A route of a VPN has a route distinguisher at least.
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
