//! Decisions as numbers: 1 and 0, which are computed with.
//!
//! A verifier follows each way through a program. That of Linux 6.1 often takes no two ways for the same where they come together
//! again, so that branches in a row multiply.

use core::arch::asm;

/// Hides from the compiler what it knows about a number, so that it makes no branch of it.
#[inline(always)]
pub(crate) fn opaque(mut number: u32) -> u32 {
    // SAFETY: the register stays as it is. (The kernel refuses a line of source without an instruction.)
    unsafe { asm!("{number} = {number}", number = inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// 1 if both are the same, else 0. Both are below 2^31.
#[inline(always)]
pub(crate) fn is(one: u32, other: u32) -> u32 {
    opaque((one ^ other).wrapping_sub(1) >> 31)
}

/// 1 for 0, and 0 for 1.
#[inline(always)]
pub(crate) fn not(truth: u32) -> u32 {
    opaque(truth ^ 1)
}

/// All bits for 1, none for 0.
#[inline(always)]
pub(crate) fn mask(truth: u32) -> u32 {
    opaque(0_u32.wrapping_sub(truth))
}

/// 1 if one is below the other, else 0. Both are below 2^31.
#[inline(always)]
pub(crate) fn is_below(one: u32, other: u32) -> u32 {
    opaque(one.wrapping_sub(other) >> 31)
}
