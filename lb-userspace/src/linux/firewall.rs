//! The rules of nftables (`iptables-nft` writes such, too), listed as the kernel has them: nothing needs to be installed for it.

use std::collections::BTreeMap;
use std::io;

use super::netlink_ask::{Asker, attribute, attributes, be_number, put, text};

/// `NFNL_SUBSYS_NFTABLES`, and its messages.
const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM + 4;
const GET_RULE: u16 = SUBSYSTEM + 7;
const GET_SET: u16 = SUBSYSTEM + 10;
const GET_ELEMENTS: u16 = SUBSYSTEM + 13;
/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

/// A chain with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `NFPROTO_...` of its table.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Name.
    pub name: String,
    /// `filter`, `nat` or `route`; empty: rules of other chains jump here.
    pub kind: String,
    /// Hook and priority, of a chain that the kernel calls.
    pub hook: Option<(u32, i32)>,
    /// Packets that no rule decides are dropped.
    pub drops: bool,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// As `nft -a` shows it.
    pub handle: u64,
    /// Name and attributes of each expression.
    pub expressions: Vec<(String, Vec<u8>)>,
}

/// A set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its elements are ends of intervals.
    pub intervals: bool,
    /// Its keys are of several fields, each an interval.
    pub concatenated: bool,
    /// Its elements.
    pub elements: Vec<Element>,
}

/// An element of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The key.
    pub key: Vec<u8>,
    /// Attributes of what the key leads to.
    pub data: Vec<u8>,
    /// The first key behind an interval.
    pub ends: bool,
    /// Stands for every key without an element.
    pub any: bool,
}

/// What a set is known by: family, table, name.
pub type SetName = (u8, String, String);

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// All chains of all tables.
    pub chains: Vec<Chain>,
    /// All sets.
    pub sets: BTreeMap<SetName, Set>,
}

/// Lists the chains of the current network namespace, without their rules.
pub fn chains() -> io::Result<Vec<Chain>> {
    chains_by(&mut Asker::netfilter()?)
}

fn chains_by(asker: &mut Asker) -> io::Result<Vec<Chain>> {
    Ok(asker.list(GET_CHAIN, &[0; HEADER])?.iter().filter_map(|body| chain(body)).collect())
}

/// Lists the rules of the current network namespace.
pub fn list() -> io::Result<Ruleset> {
    let asker = &mut Asker::netfilter()?;
    let mut chains = chains_by(asker)?;
    if chains.is_empty() {
        return Ok(Ruleset::default());
    }
    for body in asker.list(GET_RULE, &[0; HEADER])? {
        let Some((family, table, name, rule)) = rule(&body) else { continue };
        let owner =
            chains.iter_mut().find(|chain| (chain.family, &chain.table, &chain.name) == (family, &table, &name));
        if let Some(owner) = owner {
            owner.rules.push(rule);
        }
    }
    let mut sets = BTreeMap::new();
    for body in asker.list(GET_SET, &[0; HEADER])? {
        let Some((name, mut set)) = set(&body) else { continue };
        let mut question = vec![name.0, 0, 0, 0];
        put(&mut question, 1, &terminated(&name.1));
        put(&mut question, 2, &terminated(&name.2));
        for body in asker.list(GET_ELEMENTS, &question)? {
            set.elements.extend(elements(&body));
        }
        sets.insert(name, set);
    }
    Ok(Ruleset { chains, sets })
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `NFTA_CHAIN_...`
fn chain(body: &[u8]) -> Option<Chain> {
    let mut chain = Chain { family: *body.first()?, ..Chain::default() };
    for (kind, value) in attributes(body.get(HEADER..)?) {
        match kind {
            1 => chain.table = text(value),
            3 => chain.name = text(value),
            4 => {
                let priority = attribute(value, 2).and_then(be_number)?;
                chain.hook = Some((attribute(value, 1).and_then(be_number)?, priority.cast_signed()));
            }
            5 => chain.drops = be_number(value) == Some(0),
            7 => chain.kind = text(value),
            _ => {}
        }
    }
    Some(chain)
}

/// `NFTA_RULE_...`
fn rule(body: &[u8]) -> Option<(u8, String, String, Rule)> {
    let (mut table, mut name, mut rule) = (String::new(), String::new(), Rule::default());
    for (kind, value) in attributes(body.get(HEADER..)?) {
        match kind {
            1 => table = text(value),
            2 => name = text(value),
            3 => rule.handle = u64::from_be_bytes(value.try_into().ok()?),
            4 => {
                rule.expressions = attributes(value)
                    .filter_map(|(_, item)| {
                        Some((text(attribute(item, 1)?), attribute(item, 2).unwrap_or_default().to_vec()))
                    })
                    .collect();
            }
            _ => {}
        }
    }
    Some((*body.first()?, table, name, rule))
}

/// `NFTA_SET_...`, `NFT_SET_...`
fn set(body: &[u8]) -> Option<(SetName, Set)> {
    const INTERVAL: u32 = 0x4;
    const CONCATENATED: u32 = 0x80;
    let attributes = body.get(HEADER..)?;
    let flags = attribute(attributes, 3).and_then(be_number).unwrap_or(0);
    let name = (*body.first()?, text(attribute(attributes, 1)?), text(attribute(attributes, 2)?));
    let concatenated = flags & (INTERVAL | CONCATENATED) == INTERVAL | CONCATENATED;
    Some((name, Set { intervals: flags & INTERVAL != 0, concatenated, elements: Vec::new() }))
}

/// `NFTA_SET_ELEM_...`
fn elements(body: &[u8]) -> Vec<Element> {
    let Some(list) = body.get(HEADER..).and_then(|all| attribute(all, 3)) else { return Vec::new() };
    let element = |item: &[u8]| {
        let flags = attribute(item, 3).and_then(be_number).unwrap_or(0);
        let key = attribute(item, 1).and_then(|key| attribute(key, 1)).unwrap_or_default();
        let data = attribute(item, 2).unwrap_or_default();
        Element { key: key.to_vec(), data: data.to_vec(), ends: flags & 1 != 0, any: flags & 2 != 0 }
    };
    attributes(list).map(|(_, item)| element(item)).collect()
}
