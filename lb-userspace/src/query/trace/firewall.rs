//! What the firewall (nftables, `iptables-nft`) does with a packet: its rules are carried out on the packet's bytes. What
//! cannot be known beforehand leaves a doubt, never a guess.

use crate::linux::firewall::{Chain, Element, Rule, Ruleset, Set};
use crate::linux::netlink_ask::{attribute, be_number, text};

use super::matches::legacy_match;
use super::probe::{Match, NetHook, Probe, Ruling, tracked};

/// Chains that jump to each other this deep are given up, as the kernel does.
const DEPTH: usize = 16;
/// Family of tables for both IPv4 and IPv6.
const INET: u8 = 1;

/// How a chain ends for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Accept,
    Drop(String),
    /// No rule decided.
    Open,
}

/// A rule's verdict.
enum Verdict {
    Next,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What the firewall does with the packet at a hook.
pub(super) fn ruling(rules: &Ruleset, hook: NetHook, probe: &Probe<'_>) -> Ruling {
    let family = if probe.v6 { 10 } else { 2 };
    let mut chains: Vec<(i32, &Chain)> = rules
        .chains
        .iter()
        .filter(|chain| chain.family == family || chain.family == INET)
        // Translation of addresses is over and done with: Sluice was first.
        .filter(|chain| chain.kind != "nat")
        .filter_map(|chain| chain.hook.filter(|(at, _)| *at == hook.number()).map(|(_, priority)| (priority, chain)))
        .collect();
    chains.sort_by_key(|(priority, _)| *priority);
    let mut machine = Machine { rules, probe, mark: Some(0), registers: [None; 64], may_drop: None, may_accept: None };
    for (_, chain) in chains {
        machine.may_accept = None;
        let end = match machine.chain(chain, 0) {
            End::Open if chain.drops => End::Drop(format!("the policy of chain {}", place(chain))),
            end => end,
        };
        if let End::Drop(by) = end {
            return match (machine.may_drop, machine.may_accept) {
                (Some(doubt), _) => Ruling::MayDrop(doubt),
                (None, Some(accepts)) => Ruling::MayDrop(format!("{by}, unless {accepts} accepts it")),
                (None, None) => Ruling::Drops(by),
            };
        }
    }
    machine.may_drop.map_or(Ruling::Accepts, Ruling::MayDrop)
}

fn place(chain: &Chain) -> String {
    let family = match chain.family {
        INET => "inet",
        2 => "ip",
        _ => "ip6",
    };
    format!("{family} {} {}", chain.table, chain.name)
}

struct Machine<'a> {
    rules: &'a Ruleset,
    probe: &'a Probe<'a>,
    /// The packet's mark, as far as it is known.
    mark: Option<u32>,
    registers: [Option<u8>; 64],
    may_drop: Option<String>,
    may_accept: Option<String>,
}

impl Machine<'_> {
    fn chain(&mut self, chain: &Chain, depth: usize) -> End {
        for rule in &chain.rules {
            let (matched, verdict) = self.rule(chain, rule);
            let by = || format!("rule {} of chain {}", rule.handle, place(chain));
            match (matched, verdict) {
                (Match::No, _) | (_, Verdict::Next) => {}
                (Match::Yes, Verdict::Accept) => return End::Accept,
                (Match::Yes, Verdict::Drop) => return End::Drop(by()),
                (Match::Yes, Verdict::Return) => return End::Open,
                (Match::Maybe, Verdict::Accept | Verdict::Return) => {
                    self.may_accept = self.may_accept.take().or(Some(by()));
                }
                (Match::Maybe, Verdict::Drop) => self.may_drop = self.may_drop.take().or(Some(by())),
                (matched, Verdict::Jump(name)) => match (matched, self.other(chain, &name, depth)) {
                    (_, End::Open) => {}
                    (Match::Yes, end) => return end,
                    (_, end) => self.doubt(end, &by()),
                },
                (matched, Verdict::Goto(name)) => match (matched, self.other(chain, &name, depth)) {
                    (Match::Yes, end) => return end,
                    (_, end) => self.doubt(end, &by()),
                },
            }
        }
        End::Open
    }

    /// A chain that may be asked ends so.
    fn doubt(&mut self, end: End, by: &str) {
        match end {
            End::Accept => self.may_accept = self.may_accept.take().or(Some(by.to_owned())),
            End::Drop(by) => self.may_drop = self.may_drop.take().or(Some(by)),
            End::Open => {}
        }
    }

    fn other(&mut self, from: &Chain, name: &str, depth: usize) -> End {
        let same = |chain: &&Chain| chain.family == from.family && chain.table == from.table && chain.name == name;
        match self.rules.chains.iter().find(same) {
            Some(chain) if depth < DEPTH => self.chain(chain, depth + 1),
            _ => End::Open,
        }
    }

    /// Whether a rule matches, and its verdict.
    fn rule(&mut self, chain: &Chain, rule: &Rule) -> (Match, Verdict) {
        self.registers = [None; 64];
        let mut matched = Match::Yes;
        for (name, body) in &rule.expressions {
            let step = match name.as_str() {
                "immediate" => match verdict(body) {
                    Some(verdict) => return (matched, verdict),
                    None => self.load(body, 1, attribute(body, 2).and_then(|data| attribute(data, 1))),
                },
                "reject" => return (matched, Verdict::Drop),
                "target" if attribute(body, 1).map(text).as_deref() == Some("REJECT") => {
                    return (matched, Verdict::Drop);
                }
                "lookup" => match self.lookup(chain, body) {
                    Ok(step) => step,
                    Err(verdict) => return (matched, verdict),
                },
                name => self.expression(name, body),
            };
            match step {
                Match::No => return (Match::No, Verdict::Next),
                Match::Maybe => matched = Match::Maybe,
                Match::Yes => {}
            }
        }
        (matched, Verdict::Next)
    }

    fn expression(&mut self, name: &str, body: &[u8]) -> Match {
        match name {
            "meta" => self.meta(body),
            "payload" => self.payload(body),
            "ct" => {
                let value = match attribute(body, 2).and_then(be_number) {
                    Some(0) => Some(self.probe.state.to_ne_bytes().to_vec()),
                    Some(1) => Some(vec![u8::from(self.probe.state != tracked::NEW)]),
                    _ => None,
                };
                self.load(body, 1, value.as_deref())
            }
            "bitwise" => self.bitwise(body),
            "cmp" => self.compare(body),
            "range" => self.range(body),
            "match" => legacy_match(body, self.probe.state, self.mark),
            "target" => {
                if attribute(body, 1).map(text).is_some_and(|name| name == "MARK" || name == "CONNMARK") {
                    self.mark = None;
                }
                Match::Yes
            }
            "counter" | "log" | "quota" | "notrack" | "masq" | "nat" | "redir" | "tproxy" | "objref"
            | "flow_offload" => Match::Yes,
            _ => Match::Maybe,
        }
    }

    /// Puts a value, which may not be known, into the register that an attribute names.
    fn load(&mut self, body: &[u8], register: u16, value: Option<&[u8]>) -> Match {
        let Some(at) = attribute(body, register).and_then(be_number).and_then(offset) else { return Match::Maybe };
        let end = value.map_or(16, |value| value.len().next_multiple_of(4));
        for (index, cell) in self.registers.iter_mut().skip(at).take(end).enumerate() {
            *cell = value.map(|value| value.get(index).copied().unwrap_or(0));
        }
        Match::Yes
    }

    fn read(&self, body: &[u8], register: u16, length: usize) -> Option<Vec<u8>> {
        let at = attribute(body, register).and_then(be_number).and_then(offset)?;
        self.registers.get(at..at + length)?.iter().copied().collect()
    }

    fn meta(&mut self, body: &[u8]) -> Match {
        let Some(key) = attribute(body, 2).and_then(be_number) else { return Match::Maybe };
        if attribute(body, 3).is_some() {
            // It is set.
            if key == 3 {
                self.mark = self.read(body, 3, 4).and_then(|mark| Some(u32::from_ne_bytes(mark.try_into().ok()?)));
            }
            return Match::Yes;
        }
        let index = |device: Option<(u32, &str)>| device.map_or(0, |(index, _)| index).to_ne_bytes().to_vec();
        let name = |device: Option<(u32, &str)>| {
            let mut name = device.map_or("", |(_, name)| name).as_bytes().to_vec();
            name.resize(16, 0);
            name
        };
        let value = match key {
            1 => Some(if self.probe.v6 { vec![0x86, 0xdd] } else { vec![8, 0] }),
            3 => self.mark.map(|mark| mark.to_ne_bytes().to_vec()),
            4 => Some(index(self.probe.iif)),
            5 => Some(index(self.probe.oif)),
            6 => Some(name(self.probe.iif)),
            7 => Some(name(self.probe.oif)),
            15 => Some(vec![if self.probe.v6 { 10 } else { 2 }]),
            16 => Some(vec![self.probe.protocol]),
            _ => None,
        };
        self.load(body, 1, value.as_deref())
    }

    fn payload(&mut self, body: &[u8]) -> Match {
        let number = |kind| attribute(body, kind).and_then(be_number).and_then(|value| usize::try_from(value).ok());
        let (Some(base), Some(offset), Some(length)) = (number(2), number(3), number(4)) else { return Match::Maybe };
        let base = match base {
            1 => 0,
            2 => self.probe.l4,
            _ => return self.load(body, 1, None),
        };
        let value = self.probe.packet.get(base + offset..base + offset + length).map(<[u8]>::to_vec);
        match value {
            Some(value) => self.load(body, 1, Some(&value)),
            None => Match::No,
        }
    }

    fn bitwise(&mut self, body: &[u8]) -> Match {
        let length =
            attribute(body, 3).and_then(be_number).and_then(|length| usize::try_from(length).ok()).unwrap_or(4);
        let data = |kind| attribute(body, kind).and_then(|data| attribute(data, 1));
        let plain = attribute(body, 6).and_then(be_number).is_none_or(|operation| operation == 0);
        let value = match (self.read(body, 1, length), data(4), data(5)) {
            (Some(value), Some(mask), Some(xor)) if plain => Some(
                value.iter().zip(mask).zip(xor).map(|((value, mask), xor)| value & mask ^ xor).collect::<Vec<u8>>(),
            ),
            _ => None,
        };
        self.load(body, 2, value.as_deref())
    }

    fn compare(&self, body: &[u8]) -> Match {
        let Some(data) = attribute(body, 3).and_then(|data| attribute(data, 1)) else { return Match::Maybe };
        let Some(value) = self.read(body, 1, data.len()) else { return Match::Maybe };
        let order = value.as_slice().cmp(data);
        Match::of(match attribute(body, 2).and_then(be_number) {
            Some(0) => order.is_eq(),
            Some(1) => order.is_ne(),
            Some(2) => order.is_lt(),
            Some(3) => order.is_le(),
            Some(4) => order.is_gt(),
            Some(5) => order.is_ge(),
            _ => return Match::Maybe,
        })
    }

    fn range(&self, body: &[u8]) -> Match {
        let data = |kind| attribute(body, kind).and_then(|data| attribute(data, 1));
        let (Some(from), Some(to)) = (data(3), data(4)) else { return Match::Maybe };
        let Some(value) = self.read(body, 1, from.len()) else { return Match::Maybe };
        let inside = from <= value.as_slice() && value.as_slice() <= to;
        Match::of(inside == (attribute(body, 2).and_then(be_number) == Some(0)))
    }

    /// Looks in a set, or for a verdict in a map.
    fn lookup(&mut self, chain: &Chain, body: &[u8]) -> Result<Match, Verdict> {
        let name = attribute(body, 1).map(text).unwrap_or_default();
        let Some(set) = self.rules.sets.get(&(chain.family, chain.table.clone(), name)) else {
            return Ok(Match::Maybe);
        };
        let inverted = attribute(body, 5).and_then(be_number).is_some_and(|flags| flags & 1 != 0);
        let length = set.elements.iter().map(|element| element.key.len()).max().unwrap_or(0);
        let found = match self.read(body, 2, length) {
            _ if set.elements.is_empty() => None,
            Some(key) if !set.concatenated => find(set, &key),
            _ => return Ok(Match::Maybe),
        };
        let Some(element) = found else { return Ok(Match::of(inverted)) };
        if attribute(body, 3).is_none() {
            return Ok(Match::of(!inverted));
        }
        if let Some(verdict) = code(&element.data) {
            return Err(verdict);
        }
        let value = attribute(&element.data, 1).map(<[u8]>::to_vec);
        Ok(self.load(body, 3, value.as_deref()))
    }
}

/// The element that a key belongs to.
fn find<'a>(set: &'a Set, key: &[u8]) -> Option<&'a Element> {
    let of_key = if set.intervals {
        let before = set.elements.iter().filter(|element| !element.any && element.key.as_slice() <= key);
        before.max_by(|a, b| (&a.key, !a.ends).cmp(&(&b.key, !b.ends))).filter(|element| !element.ends)
    } else {
        set.elements.iter().find(|element| !element.any && element.key == key)
    };
    of_key.or_else(|| set.elements.iter().find(|element| element.any))
}

/// Where a register begins among their bytes.
fn offset(register: u32) -> Option<usize> {
    let register = usize::try_from(register).ok()?;
    match register {
        1..=4 => Some((register - 1) * 16),
        8..=23 => Some((register - 8) * 4),
        _ => None,
    }
}

/// The verdict of an `immediate`; `None`: it loads a value.
fn verdict(body: &[u8]) -> Option<Verdict> {
    code(attribute(body, 2)?)
}

/// `NFTA_DATA_VERDICT`
fn code(data: &[u8]) -> Option<Verdict> {
    let verdict = attribute(data, 2)?;
    let chain = || attribute(verdict, 2).map(text).unwrap_or_default();
    Some(match attribute(verdict, 1).and_then(be_number)?.cast_signed() {
        0 => Verdict::Drop,
        -3 => Verdict::Jump(chain()),
        -4 => Verdict::Goto(chain()),
        -5 => Verdict::Return,
        -1 | -2 => Verdict::Next,
        _ => Verdict::Accept,
    })
}
