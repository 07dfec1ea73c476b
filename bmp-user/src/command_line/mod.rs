//! The command lines of `bmpd` and `bmpctl`: what the programs, their manual pages and their
//! completions have in common.

mod bmpctl;
mod bmpd;

pub use bmpctl::{BmpctlArguments, BmpctlCommand, TopArguments};
pub use bmpd::{BmpdArguments, BmpdCommand, BmpdRunArguments, DoctorArguments};
