//! Where the agent's own checks are posted, for its report and its metrics, and what they learn from its source.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::facts::Names;
use super::finding::{Finding, Level};
use crate::model::event::SourceEvent;

/// Findings that a report has room for.
const POSTED: usize = 16;

/// What was found last. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board {
    names: Arc<Mutex<Names>>,
    own_node_only: bool,
    posted: watch::Sender<Vec<Finding>>,
}

impl Board {
    /// Nothing was found yet. `own_node_only`: the source is asked for this node's Node object and no other.
    pub fn new(node_name: &str, own_node_only: bool) -> Self {
        Self { names: Arc::new(Mutex::new(Names::of(node_name))), own_node_only, posted: watch::Sender::default() }
    }

    /// The source has said this.
    pub fn heard(&self, events: &[SourceEvent]) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).take(events, self.own_node_only);
    }

    /// What the source has said of nodes.
    pub fn names(&self) -> Names {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Posts what matters of these findings, and gives what is new.
    pub fn post(&self, findings: &[Finding]) -> Vec<Finding> {
        let mut bad: Vec<Finding> =
            findings.iter().filter(|finding| finding.level >= Level::Warning).cloned().collect();
        bad.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        bad.truncate(POSTED);
        let before = self.posted.borrow().clone();
        let news = bad.iter().filter(|finding| !before.contains(finding)).cloned().collect();
        self.posted.send_if_modified(|posted| {
            let differs = *posted != bad;
            *posted = bad;
            differs
        });
        news
    }

    /// Follows what is posted.
    pub fn follow(&self) -> watch::Receiver<Vec<Finding>> {
        self.posted.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_posted_once_the_worst_first() {
        let board = Board::new("n1", true);
        let mut follower = board.follow();
        let findings = [
            Finding::ok("fine").of("a"),
            Finding::warning("odd", "look").of("b"),
            Finding::problem("bad", "mend").of("c"),
        ];
        let checks = |found: &[Finding]| found.iter().map(|finding| finding.check.to_string()).collect::<Vec<_>>();
        assert_eq!(checks(&board.post(&findings)), ["c", "b"]);
        assert_eq!(checks(&follower.borrow_and_update()), ["c", "b"]);
        assert!(board.post(&findings).is_empty() && !follower.has_changed().unwrap(), "nothing is new");
        board.post(&findings[..1]);
        assert!(follower.has_changed().unwrap() && follower.borrow().is_empty(), "it is over");
        board.heard(&[SourceEvent::Replace(crate::model::event::Kind::Node, Vec::new())]);
        assert_eq!(board.names().object, Some(false));
    }
}
