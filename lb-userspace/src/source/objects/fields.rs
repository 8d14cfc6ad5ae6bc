//! Fields that several kinds of objects have.

use crate::model::desired::Protocol;

/// Where objects without a namespace live.
const DEFAULT_NAMESPACE: &str = "default";

/// `metadata.namespace` of a kind with namespaces.
pub(super) fn namespace(given: Option<String>) -> String {
    given.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// A protocol by its name; TCP when not given.
pub(super) fn parse_protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("") => Some(Protocol::Tcp),
        Some(name) => Protocol::from_name(name),
    }
}

/// A port number other than 0.
pub(super) fn parse_port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
