//! Choices: from the bytes of a fuzzer, or without end from a seed.

use super::super::noise::Noise;

/// Where choices come from.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    bytes: &'a [u8],
    noise: Option<Noise>,
}

impl<'a> Tape<'a> {
    /// One choice a byte; it ends with them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, noise: None }
    }

    /// Choices without end, the same ones for each seed.
    pub fn endless(seed: u64) -> Self {
        Self { bytes: &[], noise: Some(Noise::new(seed)) }
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.bytes.is_empty() && self.noise.is_none()
    }

    /// A byte; 0 after the end.
    pub fn byte(&mut self) -> u8 {
        if let Some(noise) = &mut self.noise {
            return noise.byte();
        }
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) * bound / 256
    }

    /// Whether one of `chances` came true. A zero byte says no.
    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == chances - 1
    }

    /// One of these. A zero byte takes the first.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number of two bytes.
    pub fn wide(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
}
