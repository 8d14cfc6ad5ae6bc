//! Whether a folder of manifests says what its author meant: for CI, without a node.

use std::collections::BTreeSet;

use super::finding::{Finding, or_ok};
use crate::model::endpoints::{SliceUse, slice_use};
use crate::model::view::View;
use crate::model::world::World;
use crate::source::manifests::{Slip, SlipKind};

/// What is looked at, and what for.
pub const CHECKS: [(&str, &str); 6] = [
    ("readable", "every file and document can be read"),
    ("kinds", "kinds that are misspelt, or read no more"),
    ("fields", "fields that the kind does not have, and values that the field does not take"),
    ("objects", "parts of objects that are not served"),
    ("slices", "EndpointSlices without a Service, and Services without an EndpointSlice"),
    ("port-names", "names of ports that differ between a Service and its EndpointSlices"),
];

/// Everything that is found. The world has taken the folder's objects and given its changes.
pub fn all(world: &World, slips: &[Slip]) -> Vec<Finding> {
    let views = world.views(|_, _, _| true);
    let by_check = [unreadable(world), kinds(slips), fields(slips), objects(world), slices(&views), ports(&views)];
    let ok = [
        "every document can be read",
        "all kinds are known",
        "all fields and values are known",
        "nothing is left out",
        "each EndpointSlice has its Service",
        "the names of ports are the same",
    ];
    let found = CHECKS.iter().zip(by_check).zip(ok);
    found
        .flat_map(|(((check, _), found), ok)| {
            or_ok(found, || ok.to_owned()).into_iter().map(|finding| finding.of(check))
        })
        .collect()
}

fn unreadable(world: &World) -> Vec<Finding> {
    let rows = world.refusals().filter(|row| matches!(row.kind, "File" | "Folder"));
    rows.map(|row| Finding::problem(format!("{}: {}", row.object, row.message), "correct the file")).collect()
}

fn kinds(slips: &[Slip]) -> Vec<Finding> {
    let finding = |slip: &Slip| match &slip.what {
        SlipKind::Kind(given, meant) => {
            let says = format!("{}: kind {given} is not read: the {} counts for nothing", slip.place, slip.object);
            Some(Finding::problem(says, format!("write kind: {meant}")))
        }
        _ => None,
    };
    slips.iter().filter_map(finding).collect()
}

fn fields(slips: &[Slip]) -> Vec<Finding> {
    let finding = |slip: &Slip| match &slip.what {
        SlipKind::Field(path, meant) => {
            let says = format!("{}: {} has no field {path}", slip.place, slip.object);
            let todo = meant.map_or_else(|| "remove it".to_owned(), |meant| format!("write {meant}"));
            Some(Finding::problem(says, todo))
        }
        SlipKind::Value(path, given, taken) => Some(Finding::problem(
            format!("{}: {} has {path}: {given}", slip.place, slip.object),
            format!("write one of {}", taken.join(", ")),
        )),
        SlipKind::Kind(..) => None,
    };
    slips.iter().filter_map(finding).collect()
}

fn objects(world: &World) -> Vec<Finding> {
    let rows = world.refusals().filter(|row| !matches!(row.kind, "File" | "Folder"));
    let finding = |row: &crate::model::desired::Refusal| {
        let says = format!("{} {}: {}: {}", row.kind, row.object, row.reason.name(), row.message);
        Finding::problem(says, "docs/manifests.md says what it means")
    };
    rows.map(finding).collect()
}

fn slices(views: &[View<'_>]) -> Vec<Finding> {
    let finding = |view: &View<'_>| match view.service {
        None if !view.name.name.is_empty() && !view.slices.is_empty() => {
            let slices: Vec<&str> = view.slices.iter().map(|slice| &*slice.name).collect();
            Some(Finding::problem(
                format!("EndpointSlice {} belongs to Service {}, which there is not", slices.join(", "), view.name),
                "correct its label kubernetes.io/service-name or its namespace, or add the Service",
            ))
        }
        Some(service) if service.skip.is_none() && view.slices.is_empty() => Some(Finding::warning(
            format!("Service {} has no EndpointSlice: its clients are refused", view.name),
            "add one with label kubernetes.io/service-name: nobody makes EndpointSlices from selectors here",
        )),
        _ => None,
    };
    views.iter().filter_map(finding).collect()
}

fn ports(views: &[View<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for view in views.iter().filter(|view| !view.slices.is_empty()) {
        let Some(service) = view.service.filter(|service| service.skip.is_none()) else { continue };
        let quoted =
            |names: BTreeSet<&str>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let theirs: BTreeSet<&str> =
            view.slices.iter().flat_map(|slice| slice.ports.iter().map(|port| &*port.name)).collect();
        for port in &service.ports {
            let uses: Vec<SliceUse> = view
                .slices
                .iter()
                .filter_map(|slice| Some(slice_use(slice, &port.name, port.protocol, slice.family?)))
                .collect();
            let is_met = uses.iter().any(|usage| !matches!(usage, SliceUse::NoSuchPort | SliceUse::OtherProtocol));
            if is_met || uses.is_empty() {
                continue;
            }
            let (name, number) = (&port.name, port.port);
            found.push(if uses.contains(&SliceUse::OtherProtocol) {
                let says =
                    format!("Service {}: no EndpointSlice has port {name:?} over {}", view.name, port.protocol.name());
                Finding::problem(says, "give both the same protocol")
            } else {
                let says = format!(
                    "Service {}: no EndpointSlice has its port {name:?} ({number}): theirs are {}",
                    view.name,
                    quoted(theirs.clone())
                );
                Finding::problem(says, "give both the same name: names are compared, not numbers")
            });
        }
        let ours: BTreeSet<&str> = service.ports.iter().map(|port| &*port.name).collect();
        let extra: BTreeSet<&str> = theirs.difference(&ours).copied().collect();
        if !extra.is_empty() && found.last().is_none_or(|last| !last.found.contains(&view.name.to_string())) {
            let says = format!("Service {}: EndpointSlices have ports {} that it has not", view.name, quoted(extra));
            found.push(Finding::warning(says, "add them to the Service, or remove them"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level::{Ok as Fine, Problem, Warning};
    use crate::model::desired::{NodeFacts, ResolveSettings};
    use crate::source::manifests;

    fn checked(text: &str) -> Vec<Finding> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), text).unwrap();
        let mut world = World::new(NodeFacts::default(), ResolveSettings::default());
        for event in manifests::read(dir.path()).unwrap() {
            world.apply(event);
        }
        world.take_changes();
        all(&world, &manifests::slips(dir.path()).unwrap())
    }

    const SOUND: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1]}]
";

    #[test]
    fn a_slip_in_a_manifest_is_named_with_its_place_and_what_to_write() {
        let sound = checked(SOUND);
        assert!(sound.len() == CHECKS.len() && sound.iter().all(|line| line.level == Fine), "{sound:#?}");
        let mut wrong = Vec::new();
        for (from, to, check, level, says, todo) in [
            ("metadata: {name: web}", "metadata: {", "readable", Problem, "a.yaml: line", "correct"),
            (
                "clusterIP:",
                "clusterIp:",
                "fields",
                Problem,
                "a.yaml:1: Service web has no field spec.clusterIp",
                "write clusterIP",
            ),
            (
                "kind: EndpointSlice",
                "kind: EndpointSlise",
                "kinds",
                Problem,
                "a.yaml:5: kind EndpointSlise",
                "write kind: EndpointSlice",
            ),
            ("spec: {", "spec: {type: Nodeport, ", "fields", Problem, "spec.type: Nodeport", "ClusterIP, NodePort"),
            ("10.1.0.1", "10.1.0.300", "objects", Problem, "BadAddress", "docs/manifests.md"),
            (
                "service-name: web",
                "service-name: wbe",
                "slices",
                Problem,
                "belongs to Service default/wbe, which there is not",
                "label",
            ),
            (
                "{name: http, port: 8080}",
                "{name: htpp, port: 8080}",
                "port-names",
                Problem,
                "port \"http\" (80): theirs are \"htpp\"",
                "same name",
            ),
            (
                "{name: http, port: 8080}",
                "{name: http, protocol: UDP, port: 8080}",
                "port-names",
                Problem,
                "over TCP",
                "same protocol",
            ),
            (
                "{name: http, port: 8080}",
                "{name: http, port: 8080}, {name: more, port: 1}",
                "port-names",
                Warning,
                "\"more\"",
                "add them",
            ),
        ] {
            let text = SOUND.replacen(from, to, 1);
            assert_ne!(text, SOUND, "{from}");
            let lines = checked(&text);
            let is_it = |line: &&Finding| {
                (&*line.check, line.level) == (check, level)
                    && line.found.contains(says)
                    && line.todo.as_ref().is_some_and(|text| text.contains(todo))
            };
            if !lines.iter().any(|line| is_it(&line)) {
                wrong.push(format!("{to}: {lines:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
