//! Streams made bit by bit, together with the parts that `format-spec/gzip.md` says they have.

use super::Parts;

/// What a block with codes has in it.
#[derive(Debug, Clone)]
pub enum Piece {
    Literals(Vec<u8>),
    Match { length: usize, distance: usize, odd: bool },
}

/// The codes of a block.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    Fixed,
    /// Dynamic, with all symbols.
    Flat,
    /// Dynamic, with sixteen symbols each of one to fifteen bits.
    Skewed,
    /// Dynamic, with the end of the block and the zero byte, and one distance.
    Single,
}

/// A block. Of its pieces, those that the codes don't have, or that reach back too far, are left out.
#[derive(Debug, Clone)]
pub enum Block {
    Stored { padding: u8, bytes: Vec<u8> },
    Coded(Table, Vec<Piece>),
}

/// A member.
#[derive(Debug, Clone)]
pub struct Member {
    pub header: Vec<u8>,
    pub blocks: Vec<Block>,
    pub padding: u8,
    pub wrong: Option<[u8; 8]>,
}

/// A header without any fields.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// Bits on their way to bytes.
#[derive(Default)]
pub struct Bits {
    pub bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    pub fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    /// Puts the highest bit first, as codes are.
    pub fn code(&mut self, code: (u32, u32)) {
        (0..code.1).rev().for_each(|bit| self.put(code.0 >> bit, 1));
    }

    /// Fills the byte up and returns what of the padding fitted.
    pub fn pad(&mut self, padding: u8) -> u8 {
        let free = (8 - self.used) % 8;
        self.put(u32::from(padding), free);
        padding & ((1_u16 << free) - 1) as u8
    }
}

/// Codes by symbol, of lengths: RFC 1951, 3.2.2, in its own words.
pub fn codes(lengths: &[u32]) -> Vec<Option<(u32, u32)>> {
    let mut codes = vec![None; lengths.len()];
    let mut code = 0;
    for bits in 1..=15 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, length)| **length == bits) {
            codes[symbol] = Some((code, bits));
            code += 1;
        }
        code <<= 1;
    }
    codes
}

pub fn lengths(table: Table) -> (Vec<u32>, Vec<u32>) {
    let skewed = |symbols: &[usize], count| {
        let mut lengths = vec![0; count];
        (1..).zip(symbols).for_each(|(length, &symbol)| lengths[symbol] = std::cmp::min(length, 15));
        lengths
    };
    match table {
        Table::Fixed => ([vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat(), vec![5; 32]),
        Table::Flat => ([vec![8; 226], vec![9; 60]].concat(), [vec![5; 28], vec![4; 2]].concat()),
        Table::Skewed => (
            skewed(&[97, 98, 285, 99, 257, 258, 100, 284, 259, 273, 101, 280, 102, 256, 103, 104], 286),
            skewed(&[0, 29, 1, 28, 2, 27, 3, 26, 4, 25, 5, 24, 6, 23, 7, 22], 30),
        ),
        Table::Single => {
            let mut literals = vec![0; 257];
            (literals[0], literals[256]) = (1, 1);
            (literals, vec![1])
        }
    }
}

/// The header of a block with dynamic codes: each length by a code of four bits.
pub fn dynamic_header(bits: &mut Bits, literals: &[u32], distances: &[u32]) {
    bits.put(literals.len() as u32 - 257, 5);
    bits.put(distances.len() as u32 - 1, 5);
    bits.put(15, 4);
    (0..19).for_each(|place| bits.put(if place < 3 { 0 } else { 4 }, 3));
    literals.iter().chain(distances).for_each(|&length| bits.code((length, 4)));
}

/// The symbol of a value, and its extra bits.
fn symbol(value: usize, first: usize, steps: impl Iterator<Item = u32>) -> (usize, u32, u32) {
    let mut base = first;
    for (symbol, extra) in steps.enumerate() {
        if value < base + (1 << extra) {
            return (symbol, (value - base) as u32, extra);
        }
        base += 1 << extra;
    }
    panic!("{value} has no symbol")
}

fn length_symbol(length: usize, odd: bool) -> (usize, u32, u32) {
    if length == 258 && !odd {
        return (285, 0, 0);
    }
    let steps = (0..28_u32).map(|index| (index / 4).saturating_sub(1));
    let (symbol, value, extra) = symbol(length, 3, steps);
    (257 + symbol, value, extra)
}

fn distance_symbol(distance: usize) -> (usize, u32, u32) {
    symbol(distance, 1, (0..30_u32).map(|index| (index / 2).saturating_sub(1)))
}

pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Makes a stream and its parts.
pub fn stream(members: &[Member], trailing: &[u8]) -> (Vec<u8>, Parts) {
    let (mut bits, mut parts) = (Bits::default(), Parts::default());
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            parts.blocks.push(1);
        }
        bits.bytes.extend(&member.header);
        parts.blocks.extend(&member.header);
        let start = parts.plain.len();
        for (index, block) in member.blocks.iter().enumerate() {
            put_block(&mut bits, &mut parts, block, index + 1 == member.blocks.len(), start);
        }
        let padding = bits.pad(member.padding);
        let plain = &parts.plain[start..];
        let mut right = flate2::Crc::new();
        right.update(plain);
        let right = [right.sum().to_le_bytes(), right.amount().to_le_bytes()].concat();
        let check = member.wrong.map_or(right.clone(), |wrong| wrong.to_vec());
        bits.bytes.extend(&check);
        parts.blocks.push(padding << 1 | u8::from(check != right));
        if check != right {
            parts.blocks.extend(&check);
        }
    }
    if !trailing.is_empty() {
        bits.bytes.extend(trailing);
        parts.blocks.push(2);
        parts.blocks.extend(trailing);
    }
    (bits.bytes, parts)
}

fn put_block(bits: &mut Bits, parts: &mut Parts, block: &Block, last: bool, start: usize) {
    let last = u8::from(last);
    bits.put(u32::from(last), 1);
    let (table, pieces) = match block {
        Block::Stored { padding, bytes } => {
            bits.put(0, 2);
            let padding = bits.pad(*padding);
            let length = (bytes.len() as u16).to_le_bytes();
            bits.bytes.extend([length[0], length[1], !length[0], !length[1]]);
            bits.bytes.extend(bytes);
            parts.plain.extend(bytes);
            let head = if padding == 0 { vec![last] } else { vec![last | 8, padding] };
            parts.blocks.extend([head, length.to_vec()].concat());
            return;
        }
        Block::Coded(table, pieces) => (*table, pieces),
    };
    let (literal_lengths, distance_lengths) = lengths(table);
    let mut header = Bits::default();
    let dynamic = !matches!(table, Table::Fixed);
    bits.put(if dynamic { 2 } else { 1 }, 2);
    if dynamic {
        dynamic_header(bits, &literal_lengths, &distance_lengths);
        dynamic_header(&mut header, &literal_lengths, &distance_lengths);
    }
    let (literal_codes, distance_codes) = (codes(&literal_lengths), codes(&distance_lengths));
    let code = |codes: &[Option<(u32, u32)>], symbol: usize| codes.get(symbol).copied().flatten();
    let (mut matches, mut run) = (0, 0);
    for piece in pieces {
        match piece {
            Piece::Literals(bytes) => {
                for &byte in bytes {
                    let Some(code) = code(&literal_codes, usize::from(byte)) else { continue };
                    bits.code(code);
                    parts.plain.push(byte);
                    run += 1;
                }
            }
            &Piece::Match { length, distance, odd } => {
                let (length_code, distance_code) = (length_symbol(length, odd), distance_symbol(distance));
                let found = code(&literal_codes, length_code.0).zip(code(&distance_codes, distance_code.0));
                let Some((first, second)) = found else { continue };
                if distance > parts.plain.len() - start {
                    continue;
                }
                bits.code(first);
                bits.put(length_code.1, length_code.2);
                bits.code(second);
                bits.put(distance_code.1, distance_code.2);
                for _ in 0..length {
                    parts.plain.push(parts.plain[parts.plain.len() - distance]);
                }
                parts.tokens.push(std::cmp::min(run, 255) as u8);
                if run >= 255 {
                    parts.tokens.extend(varint(run - 255));
                }
                let field = (distance as u16 - 1) | if odd && length == 258 { 0x8000 } else { 0 };
                parts.tokens.push((length - 3) as u8);
                parts.tokens.extend(field.to_le_bytes());
                (matches, run) = (matches + 1, 0);
            }
        }
    }
    bits.code(code(&literal_codes, 256).unwrap());
    parts.blocks.push(last | if dynamic { 4 } else { 2 });
    parts.blocks.extend([varint(matches), varint(run), header.bytes].concat());
}

/// Makes a stream of one member with nothing unusual but its blocks, and its parts.
pub fn of_blocks(blocks: &[Block]) -> (Vec<u8>, Parts) {
    stream(&[Member { header: HEADER.to_vec(), blocks: blocks.to_vec(), padding: 0, wrong: None }], &[])
}
