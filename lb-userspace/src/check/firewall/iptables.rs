//! What `iptables-save` and `ip6tables-save` print.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Chain, Rule, Verdict};

/// Targets that change a packet, or tell of it, and let it go on.
const GO_ON: [&str; 12] =
    ["MARK", "CONNMARK", "LOG", "NFLOG", "ULOG", "TCPMSS", "TRACE", "CT", "NOTRACK", "TOS", "DSCP", "CLASSIFY"];

/// Chains with their rules. `v6`: of `ip6tables-save`.
pub fn parse(text: &str, v6: bool) -> Vec<Chain> {
    let (tool, family) = if v6 { ("ip6tables", "ip6") } else { ("iptables", "ip") };
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            chains.push(Chain {
                tool: tool.to_owned(),
                family: family.to_owned(),
                table: table.to_owned(),
                name: name.to_owned(),
                // Built-in chains have a policy, and the names of the hooks.
                hook: (policy != "-").then(|| name.to_ascii_lowercase()),
                drops: policy == "DROP",
                rules: Vec::new(),
            });
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let owner = chains.iter_mut().rev().find(|chain| chain.table == table && chain.name == name);
            if let Some(chain) = owner {
                let command = format!("{tool} -t {table} -D {name} {rule}");
                chain.rules.push(read_rule(command.trim_end().to_owned(), rule));
            }
        }
    }
    chains
}

fn read_rule(command: String, text: &str) -> Rule {
    let mut rule = Rule::new(command);
    let words = words(text);
    let mut negated = false;
    let mut at = words.iter().map(String::as_str).peekable();
    while let Some(word) = at.next() {
        match word {
            "!" => {
                negated = true;
                rule.conditional = true;
                continue;
            }
            "-j" | "-g" | "--jump" | "--goto" => {
                rule.verdict = match at.next().unwrap_or_default() {
                    "ACCEPT" => Verdict::Accept,
                    "DROP" | "REJECT" => Verdict::Drop,
                    "RETURN" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" => Verdict::Other,
                    target if GO_ON.contains(&target) => Verdict::Other,
                    chain => Verdict::Jump(chain.to_owned()),
                };
            }
            // A comment is no condition.
            "-m" if at.peek() == Some(&"comment") => {
                at.next();
            }
            "--comment" => {
                at.next();
            }
            "--dport" | "--dports" | "--destination-port" | "--ctorigdstport" => {
                rule.conditional = true;
                let value = at.next().unwrap_or_default();
                if !negated {
                    rule.ports.extend(value.split(',').filter_map(port_range));
                }
            }
            "-d" | "--destination" | "--ctorigdst" => {
                rule.conditional = true;
                let value = at.next().unwrap_or_default();
                if !negated {
                    rule.addresses.extend(value.split(',').filter_map(network));
                }
            }
            "--ctstate" | "--state" => {
                let states = at.next().unwrap_or_default();
                rule.established |= states.contains("ESTABLISHED") && !states.contains("NEW");
            }
            "-s" | "-i" | "-o" | "-p" | "-m" => rule.conditional = true,
            _ => {}
        }
        negated = false;
    }
    rule
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once(':').unwrap_or((text, text));
    Some((low.parse().ok()?, high.parse().ok()?))
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Words of a line; what is quoted is one.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
