//! Guarded accesses for x86-64.
//!
//! Loads and stores of this processor are acquire and release ones as they are; the compiler keeps
//! blocks of assembly in order among each other, and those without `readonly` also after and before
//! all other accesses. So each of these accesses is at least as strong as the order it is asked
//! for.

#![allow(unsafe_code)]

use std::arch::{asm, naked_asm};
#[cfg(not(test))]
use std::sync::atomic::Ordering;

use super::fault::MemoryFault;

/// A row of the table: a fault of an instruction from `$from` up to `$to` goes on at `$resume`.
///
/// The distances are relative to the row, so that the table needs no relocation at load time. `R`
/// keeps the linker from dropping rows that nothing refers to.
macro_rules! fixup {
    ($from:literal, $to:literal, $resume:literal) => {
        concat!(
            ".pushsection net_queue_fixups,\"aR\",@progbits\n",
            ".balign 4\n",
            ".long ",
            $from,
            " - .\n",
            ".long ",
            $to,
            " - .\n",
            ".long ",
            $resume,
            " - .\n",
            ".popsection"
        )
    };
}

mod header;

pub(crate) use header::{load_header, store_header, store_header_with};

/// From how many bytes on a copy in 32-byte steps is worth asking whether the processor has them.
const WIDE: usize = 64;

fn done(failed: u64) -> Result<(), MemoryFault> {
    if failed == 0 {
        Ok(())
    } else {
        Err(MemoryFault)
    }
}

/// Copies `len` bytes. After a fault any part of `dst` may have been written.
///
/// # Safety
/// Both ranges were mapped once and do not overlap; what is not guest memory of them is valid.
#[inline]
pub(crate) unsafe fn copy(src: *const u8, dst: *mut u8, len: usize) -> Result<(), MemoryFault> {
    if len >= WIDE && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the caller's promise, and the processor has the instructions.
        return done(unsafe { copy_wide(dst, src, len) });
    }
    // SAFETY: the caller's promise; every x86-64 processor has SSE2.
    done(unsafe {
        if len < 16 {
            copy_tiny(dst, src, len)
        } else {
            copy_narrow(dst, src, len)
        }
    })
}

/// Copies fewer than 16 bytes; returns 0, or 1 after a fault.
///
/// # Safety
/// As for [`copy`].
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_tiny(dst: *mut u8, src: *const u8, len: usize) -> u64 {
    naked_asm!(
        // Two words of 8, 4 or 2 bytes that overlap, or one byte.
        "2:",
        "cmp edx, 8",
        "jb 52f",
        "mov rax, [rsi]",
        "mov rcx, [rsi + rdx - 8]",
        "mov [rdi], rax",
        "mov [rdi + rdx - 8], rcx",
        "xor eax, eax",
        "ret",
        "52:",
        "cmp edx, 4",
        "jb 53f",
        "mov eax, [rsi]",
        "mov ecx, [rsi + rdx - 4]",
        "mov [rdi], eax",
        "mov [rdi + rdx - 4], ecx",
        "xor eax, eax",
        "ret",
        "53:",
        "cmp edx, 2",
        "jb 54f",
        "movzx eax, word ptr [rsi]",
        "movzx ecx, word ptr [rsi + rdx - 2]",
        "mov word ptr [rdi], ax",
        "mov word ptr [rdi + rdx - 2], cx",
        "xor eax, eax",
        "ret",
        "54:",
        "test edx, edx",
        "je 55f",
        "movzx eax, byte ptr [rsi]",
        "mov byte ptr [rdi], al",
        "55:",
        "xor eax, eax",
        "ret",
        "3:",
        "mov eax, 1",
        "ret",
        fixup!("2b", "3b", "3b"),
    )
}

/// Copies at least 16 bytes in steps of 16; returns 0, or 1 after a fault.
///
/// The last step overlaps the one before, which spares a loop for the rest.
///
/// # Safety
/// As for [`copy`].
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_narrow(dst: *mut u8, src: *const u8, len: usize) -> u64 {
    naked_asm!(
        "2:",
        "cmp rdx, 32",
        "ja 4f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "xor eax, eax",
        "ret",
        // Above 32 bytes: 64 at a time, the last 64 (or 2 times 32) behind the loop.
        "4:",
        "cmp rdx, 64",
        "ja 42f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "xor eax, eax",
        "ret",
        "42:",
        "lea rcx, [rdx - 64]",
        "xor eax, eax",
        "43:",
        "movups xmm0, [rsi + rax]",
        "movups xmm1, [rsi + rax + 16]",
        "movups xmm2, [rsi + rax + 32]",
        "movups xmm3, [rsi + rax + 48]",
        "movups [rdi + rax], xmm0",
        "movups [rdi + rax + 16], xmm1",
        "movups [rdi + rax + 32], xmm2",
        "movups [rdi + rax + 48], xmm3",
        "add rax, 64",
        "cmp rax, rcx",
        "jb 43b",
        "movups xmm0, [rsi + rcx]",
        "movups xmm1, [rsi + rcx + 16]",
        "movups xmm2, [rsi + rcx + 32]",
        "movups xmm3, [rsi + rcx + 48]",
        "movups [rdi + rcx], xmm0",
        "movups [rdi + rcx + 16], xmm1",
        "movups [rdi + rcx + 32], xmm2",
        "movups [rdi + rcx + 48], xmm3",
        "xor eax, eax",
        "ret",
        "3:",
        "mov eax, 1",
        "ret",
        fixup!("2b", "3b", "3b"),
    )
}

/// Copies at least 64 bytes in steps of 32; returns 0, or 1 after a fault.
///
/// # Safety
/// As for [`copy`], and the processor has AVX2.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_wide(dst: *mut u8, src: *const u8, len: usize) -> u64 {
    naked_asm!(
        "2:",
        "cmp rdx, 128",
        "ja 4f",
        "vmovdqu ymm0, [rsi]",
        "vmovdqu ymm1, [rsi + 32]",
        "vmovdqu ymm2, [rsi + rdx - 64]",
        "vmovdqu ymm3, [rsi + rdx - 32]",
        "vmovdqu [rdi], ymm0",
        "vmovdqu [rdi + 32], ymm1",
        "vmovdqu [rdi + rdx - 64], ymm2",
        "vmovdqu [rdi + rdx - 32], ymm3",
        "vzeroupper",
        "xor eax, eax",
        "ret",
        // Above 128 bytes: as many at a time, the last 128 behind the loop.
        "4:",
        "lea rcx, [rdx - 128]",
        "xor eax, eax",
        ".balign 32",
        "42:",
        "vmovdqu ymm0, [rsi + rax]",
        "vmovdqu ymm1, [rsi + rax + 32]",
        "vmovdqu ymm2, [rsi + rax + 64]",
        "vmovdqu ymm3, [rsi + rax + 96]",
        "vmovdqu [rdi + rax], ymm0",
        "vmovdqu [rdi + rax + 32], ymm1",
        "vmovdqu [rdi + rax + 64], ymm2",
        "vmovdqu [rdi + rax + 96], ymm3",
        "add rax, 128",
        "cmp rax, rcx",
        "jb 42b",
        "vmovdqu ymm0, [rsi + rcx]",
        "vmovdqu ymm1, [rsi + rcx + 32]",
        "vmovdqu ymm2, [rsi + rcx + 64]",
        "vmovdqu ymm3, [rsi + rcx + 96]",
        "vmovdqu [rdi + rcx], ymm0",
        "vmovdqu [rdi + rcx + 32], ymm1",
        "vmovdqu [rdi + rcx + 64], ymm2",
        "vmovdqu [rdi + rcx + 96], ymm3",
        "vzeroupper",
        "xor eax, eax",
        "ret",
        "3:",
        "vzeroupper",
        "mov eax, 1",
        "ret",
        fixup!("2b", "3b", "3b"),
    )
}

/// Sets bits of one byte, atomically.
///
/// # Safety
/// The byte was mapped once, and is accessed atomically.
#[inline]
pub(crate) unsafe fn fetch_or8(ptr: *mut u8, bits: u8) -> Result<(), MemoryFault> {
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the access and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "lock or byte ptr [{ptr}], {bits}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            bits = in(reg_byte) bits,
            failed = inout(reg) failed,
            options(nostack),
        );
    }
    done(failed)
}

/// Loads a word.
///
/// # Safety
/// The word was mapped once and is aligned, and is accessed atomically.
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn load16(ptr: *const u16, _order: Ordering) -> Result<u16, MemoryFault> {
    // No word has this value, so it stays only when the load was skipped.
    let mut value = u32::MAX;
    // SAFETY: the caller's promise; a fault goes on behind the load.
    unsafe {
        asm!(
            "2:",
            "movzx {value:e}, word ptr [{ptr}]",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            value = inout(reg) value,
            options(nostack, preserves_flags, readonly),
        );
    }
    u16::try_from(value).map_err(|_| MemoryFault)
}

/// Stores a word.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn store16(
    ptr: *mut u16,
    value: u16,
    _order: Ordering,
) -> Result<(), MemoryFault> {
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the store and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov word ptr [{ptr}], {value:x}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            value = in(reg) value,
            failed = inout(reg) failed,
            options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Stores a double word.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn store32(ptr: *mut u32, value: u32) -> Result<(), MemoryFault> {
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the store and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov dword ptr [{ptr}], {value:e}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            value = in(reg) value,
            failed = inout(reg) failed,
            options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Stores a quad word, as one.
///
/// # Safety
/// As for [`copy`], of eight bytes at an address that is a multiple of eight.
#[inline(always)]
pub(crate) unsafe fn store64(ptr: *mut u64, value: u64) -> Result<(), MemoryFault> {
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the store and leaves `failed`.
    unsafe {
        asm!(
            "2:", "mov qword ptr [{0}], {1}", "mov {2:e}, 0", "3:", fixup!("2b", "3b", "3b"),
            in(reg) ptr, in(reg) value, inout(reg) failed, options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Stores two neighbouring double words.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn store32x2(ptr: *mut u32, first: u32, second: u32) -> Result<(), MemoryFault> {
    let mut failed = 1u64;
    // SAFETY: the caller's promise; a fault goes on behind the stores and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov dword ptr [{ptr}], {first:e}",
            "mov dword ptr [{ptr} + 4], {second:e}",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            first = in(reg) first,
            second = in(reg) second,
            failed = inout(reg) failed,
            options(nostack, preserves_flags),
        );
    }
    done(failed)
}

/// Loads two neighbouring quad words, the second one first.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn load64x2(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    let mut failed = 1u64;
    let (mut low, mut high) = (0u64, 0u64);
    // SAFETY: the caller's promise; a fault goes on behind the loads and leaves `failed`.
    unsafe {
        asm!(
            "2:",
            "mov {high}, qword ptr [{ptr} + 8]",
            "mov {low}, qword ptr [{ptr}]",
            "mov {failed:e}, 0",
            "3:",
            fixup!("2b", "3b", "3b"),
            ptr = in(reg) ptr,
            low = inout(reg) low,
            high = inout(reg) high,
            failed = inout(reg) failed,
            options(nostack, preserves_flags, readonly),
        );
    }
    done(failed).map(|()| (low, high))
}

/// The same, after the last two bytes of the second word: what was written before those is seen.
/// Loads of this processor keep their order, and one of a quad word is one access.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
#[inline(always)]
pub(crate) unsafe fn load64x2_acquire(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    // SAFETY: the caller's promise.
    unsafe { load64x2(ptr) }
}

/// A row of the table as it lies in memory.
#[repr(C)]
pub(super) struct Fixup {
    from: i32,
    to: i32,
    resume: i32,
}

unsafe extern "C" {
    // The linker defines both for a section whose name is an identifier.
    #[link_name = "__start_net_queue_fixups"]
    static TABLE: Fixup;
    #[link_name = "__stop_net_queue_fixups"]
    static TABLE_END: Fixup;
}

/// Returns where the thread goes on after a fault of the instruction at `at`, if it is listed.
///
/// Async-signal-safe: it reads constants only.
pub(super) fn resume_after(at: u64) -> Option<u64> {
    let (mut row, end) = (&raw const TABLE, &raw const TABLE_END);
    while row < end {
        // SAFETY: the rows between the two symbols are constants of this program.
        let (from, to, resume) = unsafe {
            let place = |field: *const i32| (field as u64).wrapping_add_signed(i64::from(*field));
            (
                place(&raw const (*row).from),
                place(&raw const (*row).to),
                place(&raw const (*row).resume),
            )
        };
        if (from..to).contains(&at) {
            return Some(resume);
        }
        row = row.wrapping_add(1);
    }
    None
}
