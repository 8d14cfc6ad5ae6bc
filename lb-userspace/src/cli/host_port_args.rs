//! Whether Pods' host ports are served, as a flag of `sluice run`, and the look for somebody else who leads them to Pods.

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::mpsc::Sender;

use crate::linux::port_mapper::{self, CNI_CONFIGURATIONS};
use crate::model::event::SourceEvent;
use crate::reconcile::agent_report::HOST_PORTS_SERVED;

/// The CNI's configuration may come after the agent, or change.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum HostPorts {
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct HostPortArgs {
    /// Whether Pods' host ports (`hostPort`) are served: on, off, or auto: unless the CNI's plugin portmap leads them to Pods.
    #[arg(long, value_name = "auto|on|off", value_enum, default_value_t, hide_possible_values = true)]
    host_ports: HostPorts,
}

impl HostPortArgs {
    /// Whether Pods have to be known.
    pub(super) const fn asks(self) -> bool {
        !matches!(self.host_ports, HostPorts::Off)
    }

    /// Says whether they are served, at once and whenever that changes.
    pub(super) async fn follow(self, events: &Sender<SourceEvent>) {
        let mut told = self.look();
        say(&told);
        // Nobody listens: whoever started this sees to it.
        let _ended = events.send(told.clone()).await;
        if self.host_ports != HostPorts::Auto {
            return;
        }
        let events = events.downgrade();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_AGAIN).await;
                let Ok(now) = tokio::task::spawn_blocking(move || self.look()).await else { return };
                if now == told {
                    continue;
                }
                say(&now);
                told.clone_from(&now);
                let Some(events) = events.upgrade() else { return };
                if events.send(now).await.is_err() {
                    return;
                }
            }
        });
    }

    fn look(self) -> SourceEvent {
        let (served, note) = match self.host_ports {
            HostPorts::On => (true, HOST_PORTS_SERVED.to_owned()),
            HostPorts::Off => (false, "not served (--host-ports off)".to_owned()),
            HostPorts::Auto => match port_mapper::find(Path::new(CNI_CONFIGURATIONS)) {
                None => (true, HOST_PORTS_SERVED.to_owned()),
                Some(by) => (false, format!("left to {by} (--host-ports on serves them all the same)")),
            },
        };
        SourceEvent::HostPorts { served, note }
    }
}

fn say(event: &SourceEvent) {
    if let SourceEvent::HostPorts { note, .. } = event {
        tracing::info!("host ports are {note}");
    }
}
