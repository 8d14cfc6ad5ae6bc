//! One event: what it is about, what it says, and the name that it has in the API.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// The same event is not sent again before.
pub(super) const REPEAT: Duration = Duration::from_secs(600);
/// The API's limit for a note.
const NOTE_LEN: usize = 1024;
/// The API's limit for a name.
const NAME_LEN: usize = 253;

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Regarding {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Regarding {
    /// An object of a namespace.
    pub fn object(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// A Node.
    pub fn node(name: &str) -> Self {
        Self::object("Node", "", name)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub regarding: Regarding,
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// What was being done.
    pub action: &'static str,
    /// For people.
    pub note: String,
    /// Every node finds the same: one of them sends it, the others look whether it is there.
    pub everywhere: bool,
}

impl Event {
    /// An event of type `Normal`.
    pub fn normal(regarding: Regarding, reason: &str, action: &'static str, note: String) -> Self {
        Self { regarding, warning: false, reason: reason.to_owned(), action, note, everywhere: false }
    }

    /// An event of type `Warning`.
    pub fn warning(regarding: Regarding, reason: &str, action: &'static str, note: String) -> Self {
        Self { regarding, warning: true, reason: reason.to_owned(), action, note, everywhere: false }
    }

    /// A name that no other event has. Where every node finds the same, all give it the same name for a while, by which
    /// they find it, and the API takes it from the first.
    pub(super) fn object_name(&self, node: &str, now: Timestamp) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.regarding, &self.reason, &self.note).hash(&mut hasher);
        if self.everywhere {
            (now.as_second() / REPEAT.as_secs().cast_signed()).hash(&mut hasher);
        } else {
            (node, now.as_nanosecond()).hash(&mut hasher);
        }
        let suffix = format!(".{:016x}", hasher.finish());
        let room = NAME_LEN - suffix.len();
        let object: String = self.regarding.name.chars().take(room).collect();
        object.trim_end_matches(['-', '.']).to_owned() + &suffix
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.regarding, &self.reason, &self.note).hash(&mut hasher);
        hasher.finish()
    }
}

/// A note as long as the API takes it.
pub(super) fn cut(note: &str) -> String {
    if note.len() < NOTE_LEN {
        return note.to_owned();
    }
    let mut cut: String = note.chars().take(NOTE_LEN / 4 - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_object_name_leaves_room_for_the_events_own() {
        let name = format!("{}-{}", "a".repeat(235), "b".repeat(17));
        let event = Event::warning(Regarding::object("EndpointSlice", "n", &name), "R", "Serve", String::new());
        let given = event.object_name("n1", Timestamp::now());
        assert!(given.len() <= NAME_LEN && given.starts_with("aaa") && !given.contains("-."), "{given}");
    }

    #[test]
    fn a_long_note_is_cut_to_what_the_api_takes() {
        assert!(cut(&"ü".repeat(5000)).len() <= NOTE_LEN);
        assert_eq!(cut("short"), "short");
    }
}
