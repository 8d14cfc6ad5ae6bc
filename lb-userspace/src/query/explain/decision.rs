//! What becomes of a client, and the rule that decided it.

use serde::Serialize;

use crate::model::reason::Reason;

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Sluice has no frontend for it.
    NotServed,
    /// TCP RST, or ICMP port unreachable.
    Refused,
    /// No answer.
    Dropped,
    /// Sent to a backend.
    Served,
}

/// The rules, with what each means.
macro_rules! rules {
    ($($name:ident: $meaning:literal;)*) => {
        /// The rule that decided.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Rule {
            $(#[doc = $meaning] $name,)*
            /// A part of the object is refused.
            Refusal(
                #[serde(serialize_with = "reason_name")]
                Reason,
            ),
        }

        impl Rule {
            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Refusal(reason) => reason.name(),
                }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                    Self::Refusal(reason) => reason.meaning(),
                }
            }
        }
    };
}

rules! {
    NoSuchService: "EndpointSlices name this Service, but there is no such Service";
    Headless: "the Service is headless: it has no address, DNS answers with the Pods' own";
    ExternalName: "the Service is of type `ExternalName`: DNS answers, nothing is served";
    OtherProxy: "the label service.kubernetes.io/service-proxy-name gives the Service to another proxy";
    NoPorts: "the Service has no port that can be served";
    UnknownPort: "the Service with this address has no such port";
    UnknownAddress: "no Service has this address and port";
    SourceRange: "the client is not in loadBalancerSourceRanges, which apply to Pods, too";
    NoSlice: "no EndpointSlice has the label kubernetes.io/service-name of this Service";
    SliceNotUsed: "its EndpointSlices are headless or of an address type that is not used";
    OtherFamily: "its EndpointSlices are of the other address family";
    PortNameDiffers: "no EndpointSlice has a port of the Service port's name";
    PortProtocolDiffers: "the EndpointSlices' port of this name has another protocol";
    NoEndpoint: "its EndpointSlices have no endpoint: does the selector match a Pod?";
    NoneReady: "it has endpoints, but none is ready or still serves while it terminates";
    NoneLocal: "the traffic policy is Local and no usable endpoint is on this node";
    Draining: "no endpoint is ready: those that terminate and still serve are used";
    LocalOnly: "the traffic policy is Local: endpoints of this node alone";
    SameNode: "topology hints of all ready endpoints narrow the set to this node";
    SameZone: "topology hints of all ready endpoints narrow the set to this zone";
    AllReady: "every ready endpoint of the cluster";
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn reason_name<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

/// What becomes of a kind of client at a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: Rule,
    /// The object that the rule looked at.
    pub object: String,
    /// Address and port, when there is a frontend.
    pub frontend: Option<String>,
    /// Kind of the frontend.
    pub kind: Option<&'static str>,
    /// The kind of client.
    pub client: &'static str,
    /// The backends that it may get.
    pub backends: Vec<String>,
    /// Of all endpoints that the Service port has.
    pub endpoints: usize,
    /// Further facts: affinity, source NAT, source ranges.
    pub notes: Vec<String>,
}

impl Decision {
    /// A decision about an object that has no frontend.
    pub(super) const fn not_served(rule: Rule, object: String) -> Self {
        Self {
            verdict: Verdict::NotServed,
            rule,
            object,
            frontend: None,
            kind: None,
            client: "everybody",
            backends: Vec::new(),
            endpoints: 0,
            notes: Vec::new(),
        }
    }

    /// Not served, though the Service asks for it.
    pub(super) const fn is_left_out(&self) -> bool {
        matches!(self.verdict, Verdict::NotServed)
    }

    /// What is worst comes first.
    pub(super) fn severity(&self) -> (Verdict, Rule) {
        (self.verdict, self.rule)
    }
}
