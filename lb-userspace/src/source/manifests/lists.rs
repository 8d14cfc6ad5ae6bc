//! The first scan of a folder as full lists.

use crate::model::event::{Object, SourceEvent};
use crate::source::objects::{ApiObject, for_each_kind};

/// The first scan's events as full lists.
pub(super) fn as_lists(events: Vec<SourceEvent>) -> Vec<SourceEvent> {
    let mut lists = Vec::new();
    macro_rules! add_list {
        ($api:ty) => {
            if <$api>::IN_MANIFESTS {
                lists.push((<$api as ApiObject>::KIND, Vec::<Object>::new()));
            }
        };
    }
    for_each_kind!(add_list);
    let mut rest = Vec::new();
    for event in events {
        match event {
            SourceEvent::Apply(object) => {
                if let Some((_, list)) = lists.iter_mut().find(|(kind, _)| *kind == object.kind()) {
                    list.push(object);
                }
            }
            other => rest.push(other),
        }
    }
    let replace = |(kind, list)| SourceEvent::Replace(kind, list);
    let mut events: Vec<SourceEvent> = lists.into_iter().map(replace).collect();
    events.append(&mut rest);
    events.push(SourceEvent::Synced);
    events
}
