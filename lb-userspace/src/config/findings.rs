//! What a configuration file says, field by field, and what becomes of it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is on or off.
    Switch,
    /// Nothing, or a value of which true and false are two.
    Perhaps,
    /// Something else.
    Value,
}

/// What the flag of this name takes; none: there is no such flag.
pub type Known<'a> = &'a dyn Fn(&str) -> Option<Takes>;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is a setting of Sluice's, too.
    Taken,
    /// It has no meaning here, and nothing is lost.
    NotApplicable,
    /// It asks for what Sluice does not do, or cannot be read: the agent does not start with it.
    Refused,
}

impl Verdict {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken over",
            Self::NotApplicable => "does not apply",
            Self::Refused => "refused",
        }
    }
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its path, such as `conntrack.min`.
    pub field: String,
    /// As written.
    pub value: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// As which setting, or why.
    pub note: String,
}

/// What a file amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Values of flags of `sluice run`, by the flag's name. An empty list is a switch that is on.
    pub settings: BTreeMap<String, Vec<String>>,
    /// Every field that is set.
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// The field becomes this flag.
    pub(super) fn take(&mut self, field: &str, value: &str, flag: &str, values: Vec<String>) {
        self.settings.insert(flag.to_owned(), values);
        self.add(field, value, Verdict::Taken, format!("--{flag}"));
    }

    /// The field is of no use here.
    pub(super) fn pass_over(&mut self, field: &str, value: &str, why: &str) {
        self.add(field, value, Verdict::NotApplicable, why.to_owned());
    }

    /// The field cannot be honoured.
    pub(super) fn refuse(&mut self, field: &str, value: &str, why: &str) {
        self.add(field, value, Verdict::Refused, why.to_owned());
    }

    fn add(&mut self, field: &str, value: &str, verdict: Verdict, note: String) {
        self.findings.push(Finding { field: field.to_owned(), value: value.to_owned(), verdict, note });
    }

    /// The flag does not take the value that the file has for it.
    pub fn refuse_flag(&mut self, flag: &str, why: &str) {
        let note = format!("--{flag}");
        for finding in self.findings.iter_mut().filter(|row| row.verdict == Verdict::Taken && row.note == note) {
            finding.verdict = Verdict::Refused;
            why.clone_into(&mut finding.note);
        }
    }

    /// What keeps the agent from starting.
    pub fn refused(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Refused)
    }
}
