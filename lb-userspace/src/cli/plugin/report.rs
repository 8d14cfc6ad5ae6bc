//! What the nodes have said, for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::cluster::{Answer, Pod};
use crate::cli::list::{Grid, Shown, Width};

/// Exit codes: a node is not healthy; a node cannot be asked.
const NOT_HEALTHY: u8 = 3;
const NOT_TOLD: u8 = 1;

/// A line a node, and the exit code. The first problem is named, `sluice status` on the node has the others.
pub(super) fn health(pods: &[Pod], answers: &[Answer]) -> (String, u8) {
    let mut grid = Grid::default()
        .word("NODE", Shown::Any)
        .word("HEALTH", Shown::Any)
        .number("SERVICES", Shown::Any)
        .word("POD", Shown::Any)
        .text("PROBLEM", Shown::Any);
    let (mut sick, mut mute) = (false, false);
    for (pod, answer) in pods.iter().zip(answers) {
        let (health, services, problem) = match serde_json::from_slice::<Value>(&answer.out) {
            Ok(status) if status["healthy"].is_boolean() => {
                let healthy = status["healthy"] == true;
                sick |= !healthy;
                let problem = status["problems"][0]["message"].as_str().unwrap_or_default().to_owned();
                let health = if healthy { "healthy" } else { "NOT HEALTHY" };
                (health, status["services"].to_string(), problem)
            }
            _ => {
                mute = true;
                ("unknown", "-".to_owned(), answer.why().lines().next().unwrap_or_default().to_owned())
            }
        };
        let problem = [pod.state.clone(), problem].into_iter().filter(|text| !text.is_empty());
        let problem = problem.collect::<Vec<_>>().join(": ");
        grid.line([pod.node.clone(), health.to_owned(), services, pod.name.clone(), problem]);
    }
    let code = if mute {
        NOT_TOLD
    } else if sick {
        NOT_HEALTHY
    } else {
        0
    };
    (grid.render(Width::Unlimited, true).join("\n"), code)
}

/// What each node has printed, below its name.
pub(super) fn one_by_one(pods: &[Pod], answers: &[Answer]) -> String {
    let mut text = String::new();
    for (pod, answer) in pods.iter().zip(answers) {
        let said = answer.text();
        let end = if answer.is_good() { String::new() } else { answer.why() + "\n" };
        let _never_fails = writeln!(text, "== {}\n{}\n{end}", pod.node, said.trim_end());
    }
    text.replace("\n\nerror:", "\nerror:")
}
