//! What a check found.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// In order.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// Somebody should look at it.
    Warning,
    /// Clients are not served because of it, or will not be.
    Problem,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Skipped, Self::Warning, Self::Problem];

    /// As a metric has it; the worse, the larger.
    pub const fn number(self) -> f64 {
        match self {
            Self::Ok => 0.0,
            Self::Skipped => 1.0,
            Self::Warning => 2.0,
            Self::Problem => 3.0,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub check: Cow<'static, str>,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub todo: Option<String>,
}

impl Finding {
    /// A finding of a check that the caller fills in.
    const fn new(level: Level, found: String, todo: Option<String>) -> Self {
        Self { check: Cow::Borrowed(""), level, found, todo }
    }

    /// In order.
    pub fn ok(found: impl Into<String>) -> Self {
        Self::new(Level::Ok, found.into(), None)
    }

    /// It could not be looked at.
    pub fn skipped(found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(Level::Skipped, found.into(), Some(todo.into()))
    }

    /// Somebody should look at it.
    pub fn warning(found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(Level::Warning, found.into(), Some(todo.into()))
    }

    /// Clients are not served because of it.
    pub fn problem(found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(Level::Problem, found.into(), Some(todo.into()))
    }

    /// The same, said by a check.
    #[must_use]
    pub fn of(self, check: &'static str) -> Self {
        Self { check: Cow::Borrowed(check), ..self }
    }
}

/// The findings, or that all is in order when there are none.
pub fn or_ok(found: Vec<Finding>, ok: impl FnOnce() -> String) -> Vec<Finding> {
    if found.is_empty() { vec![Finding::ok(ok())] } else { found }
}

/// The first names of a list, and how many more there are.
pub fn named<T: AsRef<str>>(names: &[T], at_most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(at_most).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(at_most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
