//! Packet builder, memory tables and named vectors, for tests of every layer.

/// A packet in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl crate::datapath::Packet for Bytes {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }
}

impl crate::datapath::PacketMut for Bytes {
    fn bytes_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.0.get_mut(offset..offset + N)?.try_into().ok()
    }
}

impl crate::datapath::Store for Bytes {
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.0.get_mut(offset..offset + N)?.copy_from_slice(&bytes);
        Some(())
    }
}
