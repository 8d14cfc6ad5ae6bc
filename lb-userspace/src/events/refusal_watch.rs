//! Which refusals are new: one event for each object.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::event::{Event, Regarding};
use crate::model::desired::Refusal;

/// Which refusals are new: one event for each object.
#[derive(Debug, Default)]
pub struct RefusalWatch {
    known: HashMap<u64, u64>,
    round: u64,
}

impl RefusalWatch {
    /// The full current set. Gives one warning for each object with a new refusal.
    pub fn news<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal>) -> Vec<Event> {
        self.round += 1;
        let mut news: Vec<&Refusal> = Vec::new();
        for refusal in refusals {
            let mut hasher = DefaultHasher::new();
            refusal.hash(&mut hasher);
            if self.known.insert(hasher.finish(), self.round).is_none() {
                news.push(refusal);
            }
        }
        self.known.retain(|_, round| *round == self.round);
        news.sort_unstable();
        let same_object = |a: &&Refusal, b: &&Refusal| (a.kind, &a.object) == (b.kind, &b.object);
        news.chunk_by(same_object).filter_map(one_event).collect()
    }
}

fn one_event(rows: &[&Refusal]) -> Option<Event> {
    let first = rows.first()?;
    let (namespace, name) = match first.object.split_once('/') {
        Some(parts) if first.kind != "File" => parts,
        _ => ("", first.object.as_str()),
    };
    let messages: Vec<&str> = rows.iter().map(|row| row.message.as_str()).collect();
    let regarding = Regarding::object(first.kind, namespace, name);
    let everywhere = !rows.iter().any(|row| row.reason.is_of_this_node());
    Some(Event { everywhere, ..Event::warning(regarding, first.reason.name(), "Serve", messages.join("; ")) })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::model::reason::Reason;

    fn refusal(object: &str, reason: Reason) -> Refusal {
        Refusal { kind: "Service", object: object.to_owned(), reason, message: format!("{reason} is wrong") }
    }

    #[test]
    fn each_refused_object_gets_one_event_until_it_was_served() {
        let mut watch = RefusalWatch::default();
        let both =
            [refusal("a/x", Reason::BadPort), refusal("a/y", Reason::BadPort), refusal("a/x", Reason::BadAddress)];
        let events = watch.news(both.iter());
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].note, "BadAddress is wrong; BadPort is wrong");
        assert_eq!(events[1].regarding, Regarding::object("Service", "a", "y"));
        assert!(watch.news(both.iter()).is_empty());
        assert!(watch.news(both[..1].iter()).is_empty());
        assert_eq!(watch.news(both.iter()).len(), 2);
    }

    #[test]
    fn what_every_node_finds_has_one_name_on_all_and_the_rest_has_its_own() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let event = |reason| one_event(&[&refusal("a/x", reason)]).unwrap();
        let of_object = event(Reason::BadAddress);
        assert_eq!(of_object.object_name("n1", at(6_000)), of_object.object_name("n2", at(6_599)));
        assert_ne!(of_object.object_name("n1", at(6_000)), of_object.object_name("n1", at(6_600)));
        assert_ne!(of_object.object_name("n1", at(6_000)), event(Reason::BadPort).object_name("n1", at(6_000)));
        let of_node = event(Reason::MapFull);
        assert_ne!(of_node.object_name("n1", at(6_000)), of_node.object_name("n2", at(6_000)));
        let both = [refusal("a/x", Reason::BadAddress), refusal("a/x", Reason::MapFull)];
        assert!(!one_event(&both.iter().collect::<Vec<_>>()).unwrap().everywhere);
    }
}
