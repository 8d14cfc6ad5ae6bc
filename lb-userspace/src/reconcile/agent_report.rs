//! The agent's report: what `sluice status` shows beside the maps themselves, stored in the `REPORT` map as JSON. Written
//! and read as this one type.

use serde::{Deserialize, Serialize};

use crate::check::finding::Finding;
use crate::config::forward::ForwardMode;
use crate::devices::AttachReport;
use crate::model::desired::Refusal;
use crate::sockets::SocketReport;

/// The last refusals to be left out when the report is too long.
const FEW: usize = 16;

/// What [`AgentReport::host_ports`] says where they are.
pub const HOST_PORTS_SERVED: &str = "served";

/// The report. A field that an agent of another version did not write has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentReport {
    /// Version of the agent.
    pub version: String,
    /// Name of the node.
    pub node_name: String,
    /// Where Services come from.
    pub source: SourceRow,
    /// Devices, hooks and features.
    pub attach: AttachReport,
    /// Socket hooks.
    pub sockets: SocketReport,
    /// Ports of the agent that somebody else has, and what they are for.
    pub ports_taken: Vec<String>,
    /// What the agent's own checks found last, the worst first.
    pub checks: Vec<Finding>,
    /// How packets of Services reach the Pods of this node.
    pub forward: ForwardRow,
    /// Whether Pods' host ports are served, and if not, why.
    pub host_ports: String,
    /// What is not served, and why.
    pub refusals: Vec<RefusalRow>,
    /// Refusals that the report has no room for.
    pub refusals_omitted: usize,
}

/// The forwarding mode, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardRow {
    /// `stack` or `redirect`.
    pub mode: String,
    /// What those packets bypass.
    pub note: Option<String>,
}

impl From<ForwardMode> for ForwardRow {
    fn from(mode: ForwardMode) -> Self {
        Self { mode: mode.name().to_owned(), note: mode.note().map(str::to_owned) }
    }
}

/// The source, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceRow {
    /// `manifests` or `kube`.
    pub kind: String,
    /// The folder, or the URL of the API server in use.
    pub from: String,
    /// Whether the source can be read now. While it cannot, the last known state stays in force.
    pub connected: bool,
    /// What is wrong; none when it is over.
    pub last_error: Option<String>,
    /// Since when it cannot be read, nanoseconds since the epoch.
    pub failing_since_ns: Option<u64>,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRow {
    /// Kind of object.
    pub kind: String,
    /// Its name.
    pub object: String,
    /// Short stable reason.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<&Refusal> for RefusalRow {
    fn from(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.kind.to_owned(),
            object: refusal.object.clone(),
            reason: refusal.reason.name().to_owned(),
            message: refusal.message.clone(),
        }
    }
}

impl AgentReport {
    /// JSON of at most `room` bytes. Ignored devices are left out first, then most refusals, then other devices.
    pub fn to_json(&mut self, room: usize) -> serde_json::Result<String> {
        loop {
            let json = serde_json::to_string(self)?;
            if json.len() <= room
                || !(self.attach.leave_out_ignored()
                    || self.leave_out_refusals(FEW)
                    || self.attach.leave_out_half()
                    || self.leave_out_refusals(0))
            {
                return Ok(json);
            }
        }
    }

    /// Leaves out half of the refusals, as long as there are more than `few`.
    fn leave_out_refusals(&mut self, few: usize) -> bool {
        let before = self.refusals.len();
        if before > few {
            self.refusals.truncate(before / 2);
            self.refusals_omitted += before - self.refusals.len();
        }
        before > few
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::device_report::HookReport;
    use crate::devices::{DeviceReport, Role};
    use crate::load::{Feature, MapSizeNote};

    fn device(index: u32, role: Role) -> DeviceReport {
        DeviceReport {
            index,
            name: format!("veth{index}"),
            kind: "veth".into(),
            role,
            why: "because".into(),
            hooks: vec![HookReport { hook: "xdp".into(), program: "uplink_xdp".into(), how: "native".into() }],
            notes: vec!["a note".into()],
            errors: vec!["an error".into()],
        }
    }

    fn refusals(number: usize) -> Vec<RefusalRow> {
        let row = RefusalRow {
            kind: "Service".into(),
            object: "default/web".into(),
            reason: "BadPort".into(),
            message: "x".repeat(100),
        };
        vec![row; number]
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let attach = AttachReport {
            devices: vec![device(1, Role::Pod), device(2, Role::Ignored)],
            features: vec![Feature { name: "tcx".into(), found: true, used: "links".into() }],
            map_sizes: vec![MapSizeNote { map: "FLOWS4".into(), wanted: 1, actual: 2 }],
            not_served: vec!["somebody".into()],
            warnings: vec!["look".into()],
            ..AttachReport::default()
        };
        let sockets = SocketReport { hooks: vec!["connect4".into()], notes: vec!["note".into()], ..Default::default() };
        let source = SourceRow {
            kind: "kube".into(),
            from: "https://x".into(),
            connected: true,
            last_error: Some("e".into()),
            failing_since_ns: Some(5),
        };
        let (version, node_name) = ("1".to_owned(), "n".to_owned());
        let mut report = AgentReport {
            version,
            node_name,
            source,
            attach,
            sockets,
            ports_taken: vec!["p".into()],
            checks: vec![Finding::warning("odd", "look").of("clock")],
            forward: ForwardMode::Redirect.into(),
            host_ports: HOST_PORTS_SERVED.to_owned(),
            refusals: refusals(1),
            refusals_omitted: 3,
        };
        let read: AgentReport = serde_json::from_str(&report.to_json(1 << 20).unwrap()).unwrap();
        assert_eq!(read, report);
    }

    #[test]
    fn field_names_are_part_of_the_interface() {
        let attach = AttachReport { devices: vec![device(1, Role::Pod)], ..AttachReport::default() };
        let report = AgentReport { attach, refusals: refusals(1), ..AgentReport::default() };
        let json = serde_json::to_value(&report).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&json),
            "attach checks forward host_ports node_name ports_taken refusals refusals_omitted sockets source version"
        );
        assert_eq!(keys(&json["source"]), "connected failing_since_ns from kind last_error");
        assert_eq!(
            keys(&json["attach"]),
            "devices devices_left_out features forwarding map_sizes not_served repairs warnings"
        );
        assert_eq!(keys(&json["attach"]["devices"][0]), "errors hooks index kind name notes role why");
        assert_eq!(keys(&json["attach"]["devices"][0]["hooks"][0]), "hook how program");
        assert_eq!(keys(&json["sockets"]), "cgroup errors hooks mode notes");
        assert_eq!(keys(&json["refusals"][0]), "kind message object reason");
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let read: AgentReport = serde_json::from_str(r#"{"node_name": "n", "of_tomorrow": 1}"#).unwrap();
        assert_eq!(read, AgentReport { node_name: "n".into(), ..AgentReport::default() });
    }

    #[test]
    fn a_long_report_says_how_much_it_left_out() {
        let mut report = AgentReport { refusals: refusals(1000), ..AgentReport::default() };
        let json = report.to_json(10_000).unwrap();
        assert!(json.len() <= 10_000);
        let shown = report.refusals.len();
        assert!(shown > 0);
        assert_eq!(report.refusals_omitted, 1000 - shown);
    }

    #[test]
    fn devices_that_matter_and_a_few_refusals_stay_longest() {
        let devices: Vec<_> = (0..400).map(|i| device(i, if i % 4 == 0 { Role::Pod } else { Role::Ignored })).collect();
        let attach = AttachReport { devices, ..AttachReport::default() };
        let mut report = AgentReport { attach, refusals: refusals(100), ..AgentReport::default() };
        let json = report.to_json(20_000).unwrap();
        assert!(json.len() <= 20_000 && report.refusals.len() > 5, "{}", report.refusals.len());
        let devices = &report.attach.devices;
        assert!(devices.len() > 20 && devices.iter().all(|device| device.role == Role::Pod), "{}", devices.len());
        assert_eq!(report.attach.devices_left_out, 400 - devices.len());
    }
}
