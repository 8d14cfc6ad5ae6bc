//! Which Services are meant: `NAME`, `-n`, `-A`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::labels::Selector;
use crate::model::desired::{Family, PortId};

/// The service port that a row belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Owner {
    /// Namespace of the Service.
    pub(in crate::cli) namespace: String,
    /// Name of the Service.
    pub(in crate::cli) name: String,
    /// Name of the port.
    pub(in crate::cli) port: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub(in crate::cli) protocol: &'static str,
}

impl Owner {
    /// Of `namespace/name:port/PROTOCOL`.
    pub(in crate::cli) fn read(text: &str, family: Family) -> Self {
        match PortId::parse(text, family) {
            Ok(PortId { service, port_name, protocol, .. }) => {
                Self { namespace: service.namespace, name: service.name, port: port_name, protocol: protocol.name() }
            }
            // Of another version: shown as it is.
            Err(_) => Self { name: text.to_owned(), ..Self::default() },
        }
    }

    /// `namespace/name`.
    pub(in crate::cli) fn service(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// `namespace/name:port`.
    pub(in crate::cli) fn service_port(&self) -> String {
        service_port(&self.service(), &self.port)
    }
}

/// `namespace/name:port`, or without the port where it has no name.
pub(in crate::cli) fn service_port(service: &str, port: &str) -> String {
    if port.is_empty() { service.to_owned() } else { format!("{service}:{port}") }
}

/// A Service as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Name {
    namespace: Option<String>,
    service: String,
    port: Option<String>,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As kubectl prints names.
        let plain = ["service/", "svc/", "services/"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
        let (namespace, rest) = match plain.split_once('/') {
            Some((namespace, rest)) => (Some(namespace.to_owned()), rest),
            None => (None, plain),
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.split('/').next().unwrap_or(port).to_owned())),
            None => (rest, None),
        };
        if name.is_empty() || name.contains('/') || namespace.as_deref() == Some("") {
            return Err("a name is [NAMESPACE/]SERVICE[:PORT]".to_owned());
        }
        Ok(Self { namespace, service: name.to_owned(), port })
    }
}

/// Which Services are meant.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which")]
pub(in crate::cli) struct SelectArgs {
    /// Of these Services alone: `[NAMESPACE/]SERVICE[:PORT]`.
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// Of this namespace alone.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Of all namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Of Services with these labels alone, such as `app=web,tier!=test`: the agent's source is asked for them.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<Selector>,
    /// With `-l`, in a cluster: how to reach it; without it: KUBECONFIG, or the Pod's service account.
    #[arg(long, value_name = "FILE", requires = "selector")]
    kubeconfig: Option<PathBuf>,
    /// Which Services have those labels, by `namespace/name`.
    #[arg(skip)]
    chosen: Option<BTreeSet<String>>,
}

impl SelectArgs {
    /// Whether a row of this Service is meant.
    pub(in crate::cli) fn wants(&self, owner: &Owner) -> bool {
        let of_namespace = self.namespace.as_ref().is_none_or(|namespace| *namespace == owner.namespace);
        let chosen = self.chosen.as_ref().is_none_or(|chosen| chosen.contains(&owner.service()));
        of_namespace && chosen && (self.names.is_empty() || self.names.iter().any(|name| Self::is(name, owner)))
    }

    /// The labels that are asked for, and with which kubeconfig.
    pub(in crate::cli) fn by_labels(&self) -> Option<(Selector, Option<PathBuf>)> {
        Some((self.selector.clone()?, self.kubeconfig.clone()))
    }

    /// These Services alone, by `namespace/name`.
    pub(in crate::cli) fn choose(&mut self, names: BTreeSet<String>) {
        self.chosen = Some(names);
    }

    fn is(name: &Name, owner: &Owner) -> bool {
        name.service == owner.name
            && name.namespace.as_ref().is_none_or(|namespace| *namespace == owner.namespace)
            && name.port.as_ref().is_none_or(|port| *port == owner.port)
    }

    /// What was asked for and is not there, as a message.
    pub(in crate::cli) fn missing<'a>(&self, owners: &(impl Iterator<Item = &'a Owner> + Clone)) -> Option<String> {
        let of_namespace = |owner: &&Owner| self.namespace.as_ref().is_none_or(|of| *of == owner.namespace);
        let missing: Vec<String> = self
            .names
            .iter()
            .filter(|name| !owners.clone().filter(of_namespace).any(|owner| Self::is(name, owner)))
            .map(|name| {
                let namespace = name.namespace.as_ref().or(self.namespace.as_ref());
                let prefix = namespace.map_or_else(String::new, |namespace| format!("{namespace}/"));
                let port = name.port.as_ref().map_or_else(String::new, |port| format!(":{port}"));
                format!("{prefix}{}{port}", name.service)
            })
            .collect();
        (!missing.is_empty()).then(|| format!("no such Service in the maps: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(names: &[&str], namespace: Option<&str>) -> SelectArgs {
        SelectArgs {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            namespace: namespace.map(str::to_owned),
            ..SelectArgs::default()
        }
    }

    #[test]
    fn names_are_with_and_without_namespace_and_port() {
        let web = Owner::read("shop/web:http/TCP", Family::V4);
        assert_eq!((web.service(), web.service_port()), ("shop/web".into(), "shop/web:http".into()));
        for (names, namespace, wanted) in [
            (&[][..], None, true),
            (&["web"], None, true),
            (&["shop/web", "shop/db"], None, true),
            (&["web:http"], Some("shop"), true),
            (&["svc/web"], None, true),
            (&["shop/web:http/TCP"], None, true),
            (&["web"], Some("other"), false),
            (&["web:https"], None, false),
            (&["other/web"], None, false),
            (&[], Some("other"), false),
        ] {
            assert_eq!(select(names, namespace).wants(&web), wanted, "{names:?} {namespace:?}");
        }
        for wrong in ["", "/web", "a/b/c"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let owners = [Owner::read("shop/web:http/TCP", Family::V4)];
        assert_eq!(select(&["web"], None).missing(&owners.iter()), None);
        let message = select(&["web", "nope", "shop/web:x"], None).missing(&owners.iter()).unwrap();
        assert_eq!(message, "no such Service in the maps: nope, shop/web:x");
        assert_eq!(select(&["web"], Some("b")).missing(&owners.iter()).unwrap(), "no such Service in the maps: b/web");
    }
}
