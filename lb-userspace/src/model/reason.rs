//! Why something is not served: every reason, its stable name and its meaning.

use std::fmt;

/// The list of reasons: name, kinds of objects, meaning. The table in `docs/manifests.md` is made of it.
macro_rules! reasons {
    ($($name:ident: $kinds:literal, $meaning:literal;)*) => {
        /// Why an object, or a part of one, is not served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// All of them, in the order of the documents.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable name, CamelCase: metric label and reason of an event.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Kinds of objects that it applies to.
            pub const fn kinds(self) -> &'static str {
                match self {
                    $(Self::$name => $kinds,)*
                }
            }

            /// What it means, for the documents.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

reasons! {
    FolderUnreadable: "Folder", "the folder cannot be listed: everything stays as it was";
    FileUnreadable: "File", "the file, or a document in it, cannot be read: what it said before stays in force";
    FileEmpty: "File", "the file is empty: what it said before stays in force";
    DuplicateObject: "File", "the object is also in another file: the first file by name counts";
    DuplicateDocument: "File", "the object is twice in the file: the first counts";
    NoClusterIp: "Service", "the Service has no address";
    SecondClusterIp: "Service", "two addresses of one family: the first is served";
    BadAddress: "Service, EndpointSlice, Pod", "no IP address";
    UnfitAddress: "Service, EndpointSlice", "an address that cannot be used: loopback, multicast or unspecified; for endpoints also link-local";
    BadPort: "Service, EndpointSlice, Pod", "no port number; the other ports are served";
    BadNodePort: "Service", "`nodePort` is no port number: the port is served on the other addresses";
    DuplicatePort: "Service", "two ports with the same name, number or `nodePort`: the first is served";
    UnknownProtocol: "Service, EndpointSlice, Pod", "a port whose protocol is not TCP, UDP or SCTP; the other ports are served";
    ProtocolNotServed: "Service, Pod", "an SCTP port: it is shown, but its packets are not translated";
    BadHealthCheckNodePort: "Service", "`healthCheckNodePort` is no port number";
    BadSourceRange: "Service", "a range in `loadBalancerSourceRanges` that cannot be read";
    SourceRangesUnreadable: "Service", "no range can be read: load balancer addresses are not served rather than open to all";
    BadAffinityTimeout: "Service", "`timeoutSeconds` is out of range: the default of 10,800 s is used";
    BadAlgorithm: "Service", "the annotation `algorithm` names none of Sluice's: the default is used";
    BadTableSize: "Service", "the annotation `maglev-table-size` is no prime number in range: the default size is used; or the table is too small for the endpoints: they are chosen at random";
    TablesFull: "Service", "no room for its Maglev tables: it is served at random until there is, see [sizes](operations.md#sizes)";
    BadWeights: "Service, EndpointSlice", "the annotation `weights` cannot be read, says two things of one endpoint, or leaves none with a weight: all endpoints have the same";
    BadEjection: "Service", "the annotation `outlier-ejection` cannot be read: the default is used";
    UnknownAnnotation: "Service, EndpointSlice", "an annotation with Sluice's prefix that it does not know: it has no effect";
    ExternalIpsOff: "Service", "`--external-ips off`, or the cluster is of Kubernetes 1.40 or newer";
    WrongFamily: "Service, EndpointSlice", "an address of a family that the object does not have";
    BadAddressType: "EndpointSlice", "`addressType` is not known: the slice is not used";
    NoServiceName: "EndpointSlice", "no label `kubernetes.io/service-name`: the slice is not used";
    NoAddress: "EndpointSlice", "an endpoint without an address: the other endpoints are used";
    AnsweredByNode: "Service", "the node has the ClusterIP on a dummy device and answers there itself, as `NodeLocal DNSCache` does: packets for it are left to the node";
    HostIpElsewhere: "Pod", "`hostIP` is no address of the node, or of a family that the Pod does not have: the host port is not served";
    DuplicateFrontend: "Service, Pod", "another Service (the older one, else the first by name), or another port of this one, has the address and port";
    ServicesFull: "Service", "no room for its ports: see [sizes](operations.md#sizes). The Service stays as it was";
    BackendsFull: "Service", "no room for all of its endpoints: those that are gone go, and others come in their place, no more than there were";
    SlotsFull: "Service", "no room for its backend sets, likewise";
    MapFull: "Service", "another map is full. The Service stays as it was";
    NameTooLong: "Service", "namespace, name and port name together are too long. The Service stays as it was";
    WriteFailed: "Service", "the kernel refused a write; it is tried again";
}

impl Reason {
    /// Whether objects may be there that could not be read.
    pub const fn hides_objects(self) -> bool {
        matches!(self, Self::FolderUnreadable | Self::FileUnreadable | Self::FileEmpty)
    }

    /// Whether it has to do with this node, and not only with the object.
    pub const fn is_of_this_node(self) -> bool {
        matches!(
            self,
            Self::AnsweredByNode
                | Self::HostIpElsewhere
                | Self::ServicesFull
                | Self::BackendsFull
                | Self::SlotsFull
                | Self::TablesFull
                | Self::MapFull
                | Self::WriteFailed
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifests.md");
    const BEGIN: &str =
        "<!-- reasons: made from model/reason.rs, SLUICE_BLESS=1 cargo test -p lb-userspace reason -->\n";
    const END: &str = "<!-- end of reasons -->\n";

    fn table() -> String {
        let mut table = "| reason | of | meaning |\n|---|---|---|\n".to_owned();
        for reason in Reason::ALL {
            writeln!(table, "| `{reason}` | {} | {} |", reason.kinds(), reason.meaning()).unwrap();
        }
        table
    }

    #[test]
    fn the_documents_have_every_reason() {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("docs/manifests.md has no table of reasons");
        let (found, after) = rest.split_once(END).expect("the table of reasons has no end");
        if std::env::var_os("SLUICE_BLESS").is_some() {
            std::fs::write(DOCUMENT, [before, BEGIN, &table(), END, after].concat()).unwrap();
        } else {
            assert_eq!(found, table(), "run this test with SLUICE_BLESS=1");
        }
    }
}
