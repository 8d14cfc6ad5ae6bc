//! How much each endpoint of a Service gets: weights by Pod name or address, as annotations have them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use super::address::parse_ip;

/// What an endpoint has where nothing is said.
pub const DEFAULT: u16 = 1;

/// Stands for a Pod's name, which is long and kept for each endpoint. 0: no Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodId(u64);

impl PodId {
    /// Of the Pod with this name.
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish().max(1))
    }
}

/// An annotation `weights`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    by_address: Box<[(IpAddr, u16)]>,
    by_pod: Box<[(PodId, u16)]>,
}

impl Weights {
    /// Reads `NAME=WEIGHT,ADDRESS=WEIGHT`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut by_address, mut by_pod) = (Vec::new(), Vec::new());
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let Some((of, weight)) = entry.split_once('=').map(|(of, weight)| (of.trim(), weight.trim())) else {
                return Err(format!("{entry:?} is no weight: write it as NAME=2 or ADDRESS=2"));
            };
            if of.is_empty() {
                return Err(format!("{entry:?} names no Pod and no address"));
            }
            let is_number = !weight.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit());
            let Some(weight) = weight.parse().ok().filter(|_| is_number) else {
                return Err(format!("{of} has weight {weight:?}: use 0 to {}", u16::MAX));
            };
            let same = match parse_ip(of) {
                Some(ip) => put(&mut by_address, ip, weight),
                None => put(&mut by_pod, PodId::of(of), weight),
            };
            if let Some(other) = same {
                return Err(format!("{of} has weight {other} and weight {weight}: keep one"));
            }
        }
        if by_address.is_empty() && by_pod.is_empty() {
            return Err("it is empty: write NAME=2 or ADDRESS=2, with commas between".to_owned());
        }
        Ok(Self { by_address: by_address.into(), by_pod: by_pod.into() })
    }

    /// What it says of an endpoint: at most by its address and by its Pod.
    pub fn of(&self, ip: IpAddr, pod: PodId) -> impl Iterator<Item = u16> {
        let by_address = self.by_address.iter().find(|(of, _)| *of == ip).map(|(_, weight)| *weight);
        let by_pod = self.by_pod.iter().find(|(of, _)| *of == pod).map(|(_, weight)| *weight);
        by_address.into_iter().chain(by_pod)
    }
}

/// Adds a weight; gives the other one that is there already, if it is another.
fn put<K: PartialEq>(to: &mut Vec<(K, u16)>, key: K, weight: u16) -> Option<u16> {
    let other = to.iter().find(|(known, _)| *known == key).map(|(_, other)| *other);
    if other.is_none() {
        to.push((key, weight));
    }
    other.filter(|other| *other != weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_by_name_and_by_address_of_both_families() {
        let weights = Weights::parse(" web-0=2, 10.1.0.7=0,fd00::7 = 65535,\n web-0=2,").unwrap();
        let of = |ip: &str, pod: &str| weights.of(ip.parse().unwrap(), PodId::of(pod)).collect::<Vec<_>>();
        assert_eq!(of("10.1.0.1", "web-0"), [2]);
        assert_eq!(of("10.1.0.7", "web-1"), [0]);
        assert_eq!(of("fd00::7", "web-0"), [65_535, 2]);
        assert_eq!(of("10.1.0.8", "web-1"), [0_u16; 0]);
    }

    #[test]
    fn weights_that_cannot_be_are_told_with_what_is_wrong() {
        for (text, said) in [
            ("", "empty"),
            ("web-0", "web-0"),
            ("web-0=", "0 to 65535"),
            ("web-0=-1", "0 to 65535"),
            ("web-0=+1", "0 to 65535"),
            ("web-0=65536", "0 to 65535"),
            ("web-0=4294967296", "4294967296"),
            ("web-0=1.5", "1.5"),
            ("=1", "names no Pod"),
            ("web-0=1,web-0=2", "weight 1 and weight 2"),
            ("10.1.0.7=1,10.1.0.7=2", "keep one"),
        ] {
            let wrong = Weights::parse(text).unwrap_err();
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
    }
}
