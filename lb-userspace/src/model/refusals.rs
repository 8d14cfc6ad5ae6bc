//! Collects what is wrong with one object, bounded: a slice of a thousand bad endpoints must not become a thousand rows.

use super::desired::{Refusal, ServiceName};
use super::reason::Reason;

/// Rows kept for one reason; further ones are only counted.
const KEPT_PER_REASON: usize = 4;

/// What is wrong with one object.
#[derive(Debug)]
pub struct Refusals {
    kind: &'static str,
    object: String,
    rows: Vec<(Refusal, usize)>,
}

impl Refusals {
    /// For a Service, or what goes for one.
    pub fn of_service(name: &ServiceName) -> Self {
        let (kind, object) = name.object();
        Self::of(kind, object)
    }

    /// For the object of this kind and name.
    pub fn of(kind: &'static str, object: impl Into<String>) -> Self {
        Self { kind, object: object.into(), rows: Vec::new() }
    }

    /// Notes one defect. `message` says what is wrong and what to do.
    pub fn note(&mut self, reason: Reason, message: impl FnOnce() -> String) {
        let same = self.rows.iter().filter(|(row, _)| row.reason == reason).count();
        if same >= KEPT_PER_REASON {
            if let Some((_, more)) = self.rows.iter_mut().rev().find(|(row, _)| row.reason == reason) {
                *more += 1;
            }
            return;
        }
        let row = Refusal { kind: self.kind, object: self.object.clone(), reason, message: message() };
        self.rows.push((row, 0));
    }

    /// All rows; the last of a reason says how many more there were.
    pub fn into_rows(self) -> Vec<Refusal> {
        self.rows
            .into_iter()
            .map(|(mut row, more)| {
                if more > 0 {
                    row.message = format!("{} (and {more} more of this kind)", row.message);
                }
                row
            })
            .collect()
    }
}
