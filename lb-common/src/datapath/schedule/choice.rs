//! What is chosen.

use crate::abi::{BackendValue, FrontendValue};

/// A frontend and the backend that was chosen for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<A> {
    /// The frontend.
    pub(in crate::datapath) frontend: FrontendValue,
    /// Tells connections of a client apart: the source port, or the low half of the socket's cookie.
    pub(in crate::datapath) source: u32,
    /// 1: it is the client's last backend.
    pub(in crate::datapath) sticky: u32,
    /// The chosen backend's id.
    pub(in crate::datapath) id: u32,
    /// The chosen backend.
    pub(in crate::datapath) backend: BackendValue<A>,
}
