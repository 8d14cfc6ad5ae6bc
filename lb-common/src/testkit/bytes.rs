//! A packet as a byte vector, read and written as the kernel programs do.

/// A packet in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl crate::wire::Read for Bytes {
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        let bytes = self.0.get(offset..offset + 4 * W)?;
        let mut words = [0; W];
        for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(four.try_into().ok()?);
        }
        Some(words)
    }

    fn u16_at(&self, offset: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(self.0.get(offset..offset + 2)?.try_into().ok()?))
    }
}

impl crate::wire::Write for Bytes {
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        let bytes = self.0.get_mut(offset..offset + 4 * W)?;
        for (word, four) in words.iter().zip(bytes.chunks_exact_mut(4)) {
            four.copy_from_slice(&word.to_ne_bytes());
        }
        Some(())
    }

    fn put_u16(&mut self, offset: usize, half: u16) -> Option<()> {
        self.0.get_mut(offset..offset + 2)?.copy_from_slice(&half.to_ne_bytes());
        Some(())
    }
}
