//! Integers in patches: unsigned LEB128 in their shortest form, at most ten bytes (P-3); signed ones as zigzag.

/// Most bytes of one integer.
pub(super) const LONGEST: usize = 10;

/// Appends `value`.
pub(super) fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An integer that is being read, byte for byte.
#[derive(Debug, Default)]
pub(super) struct Partial {
    value: u64,
    bytes: u32,
}

/// What one more byte makes of an integer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More(Partial),
    Done(u64),
    /// Longer than need be, or beyond 64 bits.
    Bad,
}

impl PartialEq for Partial {
    fn eq(&self, other: &Self) -> bool {
        (self.value, self.bytes) == (other.value, other.bytes)
    }
}

impl Eq for Partial {}

impl Partial {
    /// Takes the next byte.
    pub(super) fn take(self, byte: u8) -> Step {
        let low = u64::from(byte & 0x7f);
        let last = byte & 0x80 == 0;
        let too_long = self.bytes as usize + 1 == LONGEST && (low > 1 || !last);
        if too_long || (last && low == 0 && self.bytes > 0) {
            return Step::Bad;
        }
        let value = self.value | low << (7 * self.bytes);
        if last { Step::Done(value) } else { Step::More(Self { value, bytes: self.bytes + 1 }) }
    }
}

/// Maps a signed integer to an unsigned one, small ones to small ones.
pub(super) fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one integer that fills `bytes`.
    fn read(bytes: &[u8]) -> Option<u64> {
        let mut partial = Partial::default();
        for (at, &byte) in bytes.iter().enumerate() {
            match partial.take(byte) {
                Step::More(more) => partial = more,
                Step::Done(value) => return (at + 1 == bytes.len()).then_some(value),
                Step::Bad => return None,
            }
        }
        None
    }

    #[test]
    fn integers_come_back() {
        for value in [0, 1, 127, 128, 300, 1 << 14, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX] {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            assert!(bytes.len() <= LONGEST);
            assert_eq!(read(&bytes), Some(value));
        }
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn longer_forms_are_refused() {
        assert_eq!(read(&[0x80, 0]), None, "zero in two bytes");
        assert_eq!(read(&[0xff, 0x80, 0]), None);
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(read(&most), Some(u64::MAX));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(read(&beyond), None, "a 65th bit");
        assert_eq!(read(&[0x80; 11]), None);
    }
}
