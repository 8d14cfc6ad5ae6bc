//! Values of settings as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::address::parse_net;
use crate::model::desired::{ExternalIps, Family};

/// Where a server listens; none: nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

impl BindAddress {
    /// Reads `ADDRESS:PORT`, or an address alone with a default port; nothing and `off` mean nowhere.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        if text.is_empty() || text == "off" {
            return Ok(Self(None));
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self((addr.port() != 0).then_some(addr)));
        }
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Self(Some(SocketAddr::new(ip, default_port)))),
            Err(_) => Err("an address such as 0.0.0.0:10256 or [::]:10256 is expected, or off".to_owned()),
        }
    }
}

/// Reads whether `spec.externalIPs` are served. Files have `true` and `false`, which YAML 1.1 makes of `on` and `off`.
pub fn external_ips(text: &str) -> Result<ExternalIps, String> {
    match text {
        "auto" => Ok(ExternalIps::AsCluster),
        "on" | "true" => Ok(ExternalIps::On),
        "off" | "false" => Ok(ExternalIps::Off),
        _ => Err("auto, on or off is expected".to_owned()),
    }
}

/// On which of the node's addresses `NodePort`s are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// The primary ones of the Node.
    Primary,
    /// Those of loopback: processes of the node alone.
    Loopback,
    /// All.
    All,
    /// Those inside this prefix.
    Inside(IpNet),
}

impl fmt::Display for NodePortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Loopback => f.write_str("localhost"),
            Self::All => f.write_str("all"),
            Self::Inside(net) => net.fmt(f),
        }
    }
}

impl NodePortAddress {
    /// Whether it speaks of this family at all.
    pub fn is_of(&self, family: Family) -> bool {
        match self {
            Self::Inside(net) => Family::of(&net.addr()) == family,
            Self::Primary | Self::Loopback | Self::All => true,
        }
    }

    /// Whether loopback addresses of this family are among them.
    pub fn has_loopback(&self, family: Family) -> bool {
        match self {
            Self::Loopback | Self::All => true,
            Self::Primary => false,
            Self::Inside(net) => net.contains(&family.loopback()),
        }
    }
}

impl FromStr for NodePortAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "primary" => Ok(Self::Primary),
            "localhost" => Ok(Self::Loopback),
            "all" => Ok(Self::All),
            _ => parse_net(text)
                .map(Self::Inside)
                .ok_or_else(|| "`primary`, `localhost`, `all` or a prefix such as 192.0.2.0/24 is expected".to_owned()),
        }
    }
}

/// Longest name of a network device (`IFNAMSIZ` without the zero at its end).
const DEVICE_NAME: usize = 15;

/// Reads the name of a network device, or the beginning of one.
pub fn device_name(text: &str) -> Result<String, String> {
    let fits = (1..=DEVICE_NAME).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_whitespace());
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a network device")) }
}

/// Reads a duration as Kubernetes' configuration has it: `1h30m`, `250ms`, `0`, `1.5h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 30s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let secs = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().ok().ok_or_else(wrong)?;
        total += Duration::try_from_secs_f64(number * secs).ok().ok_or_else(wrong)?;
        rest = next;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let good = [("0", 0), ("0s", 0), ("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5h", 5_400_000)];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1d", "1h 30m", "1..5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn node_port_addresses_have_kube_proxys_keywords() {
        for text in ["primary", "localhost", "all", "192.0.2.0/24", "fd00::/64"] {
            assert_eq!(text.parse::<NodePortAddress>().unwrap().to_string(), text);
        }
        for bad in ["", "Primary", "192.0.2.1", "none"] {
            assert!(bad.parse::<NodePortAddress>().is_err(), "{bad}");
        }
        let loopback = |text: &str| {
            let addresses: NodePortAddress = text.parse().unwrap();
            [Family::V4, Family::V6].map(|family| addresses.has_loopback(family))
        };
        assert_eq!(loopback("primary"), [false, false]);
        assert_eq!((loopback("localhost"), loopback("all")), ([true, true], [true, true]));
        assert_eq!((loopback("127.0.0.0/8"), loopback("::/0")), ([true, false], [false, true]));
    }

    #[test]
    fn a_device_has_a_name_that_the_kernel_would_take() {
        assert_eq!(device_name("br-0123456789ab"), Ok("br-0123456789ab".to_owned()));
        for bad in ["", "br-0123456789abc", "a b", "a/b"] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bind_address_may_lack_its_port_or_be_off() {
        let at = |text: &str| BindAddress::parse(text, 10_256).unwrap().0.map(|addr| addr.to_string());
        assert_eq!(at("0.0.0.0"), Some("0.0.0.0:10256".into()));
        assert_eq!(at("[::]:1"), Some("[::]:1".into()));
        assert_eq!(at("::1"), Some("[::1]:10256".into()));
        assert_eq!((at(""), at("off"), at("127.0.0.1:0")), (None, None, None));
        assert!(BindAddress::parse("localhost:1", 1).is_err());
    }
}
