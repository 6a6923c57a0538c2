//! Headers between guest memory and registers: one that was put together in memory would be waited
//! for when it is read in wider pieces than it was written in.
#![allow(unsafe_code)]

use std::arch::asm;

use super::done;
use crate::memory::guard::fault::MemoryFault;

/// Stores a header, from two registers.
///
/// # Safety
/// 12 bytes at `dst` were mapped once and belong to guest memory.
#[inline(always)]
pub(crate) unsafe fn store_header(dst: *mut u8, header: [u8; 12]) -> Result<(), MemoryFault> {
    let ([low @ .., _, _, _, _], [.., a, b, c, d]) = (header, header);
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the stores and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov qword ptr [{dst}], {low}",
            "mov dword ptr [{dst} + 8], {high:e}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            dst = in(reg) dst,
            low = in(reg) u64::from_ne_bytes(low),
            high = in(reg) u32::from_ne_bytes([a, b, c, d]),
            failed = inout(reg) failed,
            options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Stores a header and eight more bytes behind it, from three registers.
///
/// # Safety
/// 20 bytes at `dst` were mapped once and belong to guest memory.
#[inline(always)]
pub(crate) unsafe fn store_header_with(
    dst: *mut u8,
    header: [u8; 12],
    more: [u8; 8],
) -> Result<(), MemoryFault> {
    let ([low @ .., _, _, _, _], [.., a, b, c, d]) = (header, header);
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the stores and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov qword ptr [{dst}], {low}",
            "mov dword ptr [{dst} + 8], {high:e}",
            "mov qword ptr [{dst} + 12], {more}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            dst = in(reg) dst,
            low = in(reg) u64::from_ne_bytes(low),
            high = in(reg) u32::from_ne_bytes([a, b, c, d]),
            more = in(reg) u64::from_ne_bytes(more),
            failed = inout(reg) failed,
            options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Loads a header.
///
/// # Safety
/// 12 bytes at `src` were mapped once and belong to guest memory.
#[inline(always)]
pub(crate) unsafe fn load_header(src: *const u8) -> Result<[u8; 12], MemoryFault> {
    let mut failed = 1u64;
    let (mut low, mut high) = (0u64, 0u32);
    // SAFETY: the caller's promise; a fault goes on behind the loads and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov {low}, qword ptr [{src}]",
            "mov {high:e}, dword ptr [{src} + 8]",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            src = in(reg) src,
            low = inout(reg) low,
            high = inout(reg) high,
            failed = inout(reg) failed,
            options(nostack, preserves_flags, readonly),
        );
    }
    let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (low.to_ne_bytes(), high.to_ne_bytes());
    done(failed).map(|()| [a, b, c, d, e, f, g, h, i, j, k, l])
}
