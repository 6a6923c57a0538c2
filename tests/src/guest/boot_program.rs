//! A program for firmware of PCs, which says on the serial line what was loaded behind it.
//!
//! A digest of memory is made by the machine that has loaded it, so that it tells of each byte, and
//! of their order.

/// Length of the program, and the unit of what it reads.
const BLOCK: usize = 512;
/// Blocks that firmware has room for below 640 KiB, some of which it needs itself.
const MAX_BLOCKS: usize = 960;

/// Place of the number of blocks in [`CODE`].
const BLOCKS_AT: usize = 8;

/// The program, to be loaded to 0:7c00 and started there in real mode.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x31, 0xc0,                     // 00          xor   ax, ax
    0x8e, 0xd8,                     // 02          mov   ds, ax
    0xbb, 0xe0, 0x07,               // 04          mov   bx, 7e0    segment behind the program
    0xbd, 0x00, 0x00,               // 07          mov   bp, BLOCKS
    0x66, 0x31, 0xc0,               // 0a          xor   eax, eax
    0x8e, 0xc3,                     // 0d  block:  mov   es, bx
    0x31, 0xff,                     // 0f          xor   di, di
    0xb9, 0x80, 0x00,               // 11          mov   cx, 128
    0x66, 0xc1, 0xc0, 0x05,         // 14  word:   rol   eax, 5
    0x26, 0x66, 0x03, 0x05,         // 18          add   eax, es:[di]
    0x83, 0xc7, 0x04,               // 1c          add   di, 4
    0xe2, 0xf3,                     // 1f          loop  word
    0x83, 0xc3, 0x20,               // 21          add   bx, 20     512 bytes on
    0x4d,                           // 24          dec   bp
    0x75, 0xe6,                     // 25          jnz   block
    0xb9, 0x08, 0x00,               // 27          mov   cx, 8
    0x66, 0xc1, 0xc0, 0x04,         // 2a  digit:  rol   eax, 4
    0x66, 0x50,                     // 2e          push  eax
    0x24, 0x0f,                     // 30          and   al, f
    0x04, b'a',                     // 32          add   al, 'a'
    0x88, 0xc4,                     // 34          mov   ah, al
    0xba, 0xfd, 0x03,               // 36          mov   dx, 3fd    line status of COM1
    0xec,                           // 39  busy:   in    al, dx
    0xa8, 0x20,                     // 3a          test  al, 20     ready to send
    0x74, 0xfb,                     // 3c          jz    busy
    0xba, 0xf8, 0x03,               // 3e          mov   dx, 3f8
    0x88, 0xe0,                     // 41          mov   al, ah
    0xee,                           // 43          out   dx, al
    0x66, 0x58,                     // 44          pop   eax
    0xe2, 0xe2,                     // 46          loop  digit
    0xf4,                           // 48  end:    hlt
    0xeb, 0xfd,                     // 49          jmp   end
];

/// The program with as many blocks of noise behind it, and the word that it says if all of it was
/// loaded as it is.
///
/// # Panics
/// If firmware has no room for so many blocks, or there are none.
#[must_use]
pub fn with_noise(blocks: usize) -> (Vec<u8>, String) {
    assert!((1..=MAX_BLOCKS).contains(&blocks), "{blocks} blocks");
    let mut file = CODE.to_vec();
    file[BLOCKS_AT..BLOCKS_AT + 2].copy_from_slice(&(blocks as u16).to_le_bytes());
    file.resize(BLOCK, 0);
    let mut state = 1_u32;
    let mut digest = 0_u32;
    for _ in 0..blocks * BLOCK / 4 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        digest = digest.rotate_left(5).wrapping_add(state);
        file.extend(state.to_le_bytes());
    }
    let digits = (0..8).rev().map(|digit| (digest >> (4 * digit)) as u8 & 15);
    (file, digits.map(|digit| char::from(b'a' + digit)).collect())
}
