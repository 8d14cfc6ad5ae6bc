//! Events on Kubernetes objects, and the same as log lines: the log always, the API when there is one.

mod event;
mod pace;
mod refusal_watch;
mod sender;
mod sink;

pub use event::{Event, Regarding};
pub use refusal_watch::RefusalWatch;
pub use sink::EventSink;
