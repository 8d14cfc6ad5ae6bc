//! What `nft -j list ruleset` prints.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Chain, Rule, Verdict};

/// Chains with their rules.
pub fn parse(json: &str) -> Result<Vec<Chain>, serde_json::Error> {
    let ruleset: Value = serde_json::from_str(json)?;
    let items = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut sets: HashMap<String, &Value> = HashMap::new();
    let mut chains: Vec<Chain> = Vec::new();
    for item in items {
        for kind in ["set", "map"] {
            if let Some(set) = item.get(kind) {
                sets.insert(set_key(set, text(set, "name")), &set["elem"]);
            }
        }
        if let Some(chain) = item.get("chain") {
            chains.push(Chain {
                tool: "nft".to_owned(),
                family: text(chain, "family").to_owned(),
                table: text(chain, "table").to_owned(),
                name: text(chain, "name").to_owned(),
                hook: chain["hook"].as_str().map(str::to_owned),
                drops: chain["policy"] == "drop",
                rules: Vec::new(),
            });
        }
    }
    let places: HashMap<[String; 3], usize> =
        chains.iter().enumerate().map(|(at, chain)| (place(&chain.family, &chain.table, &chain.name), at)).collect();
    for rule in items.iter().filter_map(|item| item.get("rule")) {
        let at = places.get(&place(text(rule, "family"), text(rule, "table"), text(rule, "chain")));
        if let Some(chain) = at.and_then(|at| chains.get_mut(*at)) {
            chain.rules.push(read_rule(rule, &sets));
        }
    }
    Ok(chains)
}

fn place(family: &str, table: &str, chain: &str) -> [String; 3] {
    [family, table, chain].map(str::to_owned)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn set_key(of: &Value, name: &str) -> String {
    format!("{} {} {name}", text(of, "family"), text(of, "table"))
}

fn read_rule(json: &Value, sets: &HashMap<String, &Value>) -> Rule {
    let [family, table, chain] = ["family", "table", "chain"].map(|field| text(json, field));
    let mut rule = Rule::new(format!("nft delete rule {family} {table} {chain} handle {}", json["handle"]));
    for expression in json["expr"].as_array().into_iter().flatten() {
        for (name, body) in expression.as_object().into_iter().flatten() {
            match &**name {
                "match" => {
                    rule.conditional = true;
                    rule.established |= is_about_answers(body);
                    if matches!(body["op"].as_str(), Some("==" | "in")) {
                        note(&mut rule, &body["left"], resolve(&body["right"], json, sets));
                    }
                }
                "vmap" => {
                    rule.conditional = true;
                    note(&mut rule, &body["key"], resolve(&body["data"], json, sets));
                }
                "accept" => rule.verdict = Verdict::Accept,
                "drop" | "reject" => rule.verdict = Verdict::Drop,
                "jump" | "goto" => rule.verdict = Verdict::Jump(text(body, "target").to_owned()),
                // What iptables' own matches say is not shown.
                "xt" => rule.conditional |= body["type"] != "target",
                "limit" => rule.conditional = true,
                _ => {}
            }
        }
    }
    rule
}

/// `ct state established,related`, without `new`.
fn is_about_answers(body: &Value) -> bool {
    let states = body["right"].to_string();
    body["left"]["ct"]["key"] == "state" && states.contains("established") && !states.contains("new")
}

/// A named set's elements, or what is there.
fn resolve<'a>(value: &'a Value, rule: &Value, sets: &HashMap<String, &'a Value>) -> &'a Value {
    let named = value.as_str().and_then(|name| name.strip_prefix('@'));
    named.and_then(|name| sets.get(&set_key(rule, name)).copied()).unwrap_or(value)
}

/// Notes the destinations that a rule compares with.
fn note(rule: &mut Rule, left: &Value, right: &Value) {
    if let Some(parts) = left["concat"].as_array() {
        for (at, part) in parts.iter().enumerate() {
            each(right, &mut |value| note_one(rule, part, value["concat"].get(at).unwrap_or(value)));
        }
        return;
    }
    each(right, &mut |value| note_one(rule, left, value));
}

/// Each element of a set, or the value alone.
fn each(value: &Value, found: &mut impl FnMut(&Value)) {
    if let Some(elements) = value.get("set").and_then(Value::as_array).or_else(|| value.as_array()) {
        for element in elements {
            // A map's element is a pair; one with a counter or a comment is wrapped.
            let key = element.as_array().and_then(|pair| pair.first()).unwrap_or(element);
            found(key.get("elem").map_or(key, |elem| &elem["val"]));
        }
    } else {
        found(value);
    }
}

fn note_one(rule: &mut Rule, left: &Value, value: &Value) {
    let field = left["payload"]["field"].as_str();
    let original = left["ct"]["key"].as_str().filter(|_| left["ct"]["dir"] != "reply");
    if field == Some("dport") || original == Some("proto-dst") {
        rule.ports.extend(port_range(value));
    } else if field == Some("daddr") || matches!(original, Some("ip daddr" | "ip6 daddr")) {
        rule.addresses.extend(address_range(value));
    }
}

fn port_range(value: &Value) -> Option<(u16, u16)> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    if let Some([low, high]) = value["range"].as_array().map(Vec::as_slice) {
        return Some((port(low)?, port(high)?));
    }
    port(value).map(|port| (port, port))
}

fn address_range(value: &Value) -> Vec<IpNet> {
    let ip = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    if let Some(prefix) = value.get("prefix") {
        let length = prefix["len"].as_u64().and_then(|length| u8::try_from(length).ok());
        return ip(&prefix["addr"])
            .zip(length)
            .and_then(|(ip, length)| IpNet::new(ip, length).ok())
            .into_iter()
            .collect();
    }
    if let Some([low, high]) = value["range"].as_array().map(Vec::as_slice) {
        return match (ip(low), ip(high)) {
            (Some(IpAddr::V4(low)), Some(IpAddr::V4(high))) => {
                ipnet::Ipv4Subnets::new(low, high, 0).map(IpNet::V4).collect()
            }
            (Some(IpAddr::V6(low)), Some(IpAddr::V6(high))) => {
                ipnet::Ipv6Subnets::new(low, high, 0).map(IpNet::V6).collect()
            }
            _ => Vec::new(),
        };
    }
    ip(value).map(IpNet::from).into_iter().collect()
}
