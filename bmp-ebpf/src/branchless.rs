//! Decisions as numbers, 1 and 0, with which one computes.
//!
//! A verifier follows each path through a program. That of Linux 6.1 often does not merge two paths
//! where they meet again, so that branches in a row multiply.

use core::arch::asm;

/// Hides from the compiler what it knows about a number, so that it makes no branch of it.
#[inline(always)]
pub(crate) fn opaque(mut number: u32) -> u32 {
    // SAFETY: the register keeps its value. The kernel refuses a source line without instructions.
    unsafe { asm!("{number} = {number}", number = inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// 1 if both are equal, else 0. Both must be below 2^31.
#[inline(always)]
pub(crate) fn is(one: u32, other: u32) -> u32 {
    opaque((one ^ other).wrapping_sub(1) >> 31)
}

/// 1 for 0, and 0 for 1.
#[inline(always)]
pub(crate) fn not(truth: u32) -> u32 {
    opaque(truth ^ 1)
}

/// All bits for 1, no bit for 0.
#[inline(always)]
pub(crate) fn mask(truth: u32) -> u32 {
    opaque(0_u32.wrapping_sub(truth))
}

/// 1 if the first is below the second, else 0. Both must be below 2^31.
#[inline(always)]
pub(crate) fn is_below(first: u32, second: u32) -> u32 {
    opaque(first.wrapping_sub(second) >> 31)
}
