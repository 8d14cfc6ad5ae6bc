//! What `sluice explain` prints for people: the deciding rule in the first three lines, then everything else.

use crate::cli::list::{Grid, Shown, Width, wrapped};
use crate::model::topology::Standing;
use crate::query::explain::{Decision, Explanation, Verdict};

pub(super) fn text(answer: &Explanation, width: Width) -> String {
    let mut lines = head(answer, width);
    lines.push(String::new());
    lines.extend(decisions(answer).render(width, true));
    let mut notes: Vec<&String> = answer.decisions.iter().flat_map(|row| &row.notes).collect();
    notes.sort();
    notes.dedup();
    lines.extend(notes.into_iter().flat_map(|note| wrapped(" - ", note, width)));
    for table in [endpoints(answer), slices(answer), refusals(answer)].iter().filter(|table| !table.is_empty()) {
        lines.push(String::new());
        lines.extend(table.render(width, true));
    }
    lines.join("\n")
}

fn head(answer: &Explanation, width: Width) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(Decision { verdict: what, rule, object, frontend, client, backends, endpoints, .. }) =
        answer.decisions.first()
    {
        let at = frontend.as_ref().map(|frontend| format!(" at {frontend}")).unwrap_or_default();
        let all = format!("{}{at}, for {client}: {} of {endpoints} endpoints", verdict(*what), backends.len());
        lines.extend(wrapped("Verdict:   ", &all, width));
        lines.extend(wrapped("Rule:      ", &format!("{}: {}", rule.name(), rule.meaning()), width));
        lines.extend(wrapped("Object:    ", object, width));
    }
    let more = [("Behind:    ", &answer.behind), ("DIFFERENT: ", &answer.differences), ("Note:      ", &answer.notes)];
    for (word, texts) in more {
        lines.extend(texts.iter().flat_map(|text| wrapped(word, text, width)));
    }
    lines
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotServed => "not served",
        Verdict::Refused => "refused",
        Verdict::Dropped => "dropped",
        Verdict::Served => "served",
    }
}

fn standing(standing: Option<Standing>) -> String {
    match standing {
        None => "-".to_owned(),
        Some(standing) if standing.is_member() => format!("in: {standing:?}"),
        Some(standing) => format!("out: {standing:?}"),
    }
}

fn decisions(answer: &Explanation) -> Grid {
    let mut grid = Grid::default()
        .text("FRONTEND", Shown::Any)
        .word("KIND", Shown::Any)
        .word("CLIENT", Shown::Any)
        .word("VERDICT", Shown::Any)
        .word("RULE", Shown::Any)
        .text("BACKENDS", Shown::Medium);
    for row in &answer.decisions {
        grid.line([
            row.frontend.clone().unwrap_or_else(|| "-".to_owned()),
            row.kind.unwrap_or("-").to_owned(),
            row.client.to_owned(),
            verdict(row.verdict).to_owned(),
            row.rule.name().to_owned(),
            row.backends.join(" "),
        ]);
    }
    grid
}

fn endpoints(answer: &Explanation) -> Grid {
    let mut grid = Grid::default()
        .text("PORT", Shown::Any)
        .text("ENDPOINT", Shown::Any)
        .word("LOCAL", Shown::Any)
        .text("SLICE", Shown::Any)
        .word("CLUSTER-SET", Shown::Any)
        .word("LOCAL-SET", Shown::Any);
    for row in &answer.endpoints {
        grid.line([
            row.port.clone(),
            row.endpoint.clone(),
            if row.local { "yes" } else { "no" }.to_owned(),
            row.slice.clone(),
            standing(row.cluster),
            standing(row.node),
        ]);
    }
    grid
}

fn slices(answer: &Explanation) -> Grid {
    let mut grid = Grid::default().text("SLICE", Shown::Any).text("PORT", Shown::Any).word("USE", Shown::Any);
    for row in &answer.slices {
        grid.line([row.slice.clone(), row.port.clone(), format!("{:?}", row.usage)]);
    }
    grid
}

fn refusals(answer: &Explanation) -> Grid {
    let mut grid = Grid::default().word("REFUSED", Shown::Any).text("MESSAGE", Shown::Any);
    for (reason, message) in &answer.refusals {
        grid.line([reason.clone(), message.clone()]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::golden;
    use crate::model::desired::{NodeFacts, ResolveSettings};
    use crate::model::event::SourceEvent;
    use crate::model::world::World;
    use crate::query::explain::explain;
    use crate::source::manifests::objects;

    const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: storefront, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  externalTrafficPolicy: Local
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, nodePort: 30080}, {name: admin, port: 70000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: storefront-x7k2p, namespace: shop, labels: {kubernetes.io/service-name: storefront}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.7], nodeName: other}
- {addresses: [10.1.0.8], nodeName: other}
- {addresses: [10.1.0.9], nodeName: me, conditions: {ready: false}}
";

    fn explanation() -> Explanation {
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let node = NodeFacts { name: "me".into(), node_port_addresses: addresses, ..NodeFacts::default() };
        let mut world = World::new(node, ResolveSettings::default());
        for object in objects(OBJECTS) {
            world.apply(SourceEvent::Apply(object.unwrap()));
        }
        world.apply(SourceEvent::Synced);
        world.take_changes();
        let mut answer = explain(&world, &"shop/storefront".parse().unwrap(), None).unwrap();
        answer.behind.push(
            "10.1.0.8:8080: nobody on eth0 answers for 10.1.0.8; do: ip neigh show 10.1.0.8; is the Pod there?".into(),
        );
        answer.differences.push("frontend 192.0.2.1:30080/TCP of shop/storefront:http/TCP is not in the maps".into());
        answer
    }

    #[test]
    fn an_explanation_is_as_the_golden_files_say() {
        let answer = explanation();
        for columns in [80, 120, 200] {
            let text = text(&answer, Width::Columns(columns));
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            let named: Vec<&str> = text.lines().take(3).collect();
            assert!(named.iter().any(|line| line.starts_with("Rule:      ")), "{named:#?}");
            golden::compare(&format!("explain.{columns}"), &text);
        }
        let whole = text(&answer, Width::Unlimited);
        assert!(whole.contains("do: ip neigh show 10.1.0.8; is the Pod there?\n"), "a pipe gets whole lines:\n{whole}");
    }
}
