//! Outlier ejection: what a Service may say of it. What it does is in `outliers`.

use std::fmt;
use std::time::Duration;

/// Whether backends that fail far more often than their fellows rest, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ejection {
    /// They go on.
    #[default]
    Off,
    /// They rest.
    On(EjectionSettings),
}

/// When a backend is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EjectionSettings {
    /// What happened in so many seconds counts; the first rest is as long.
    pub window_secs: u16,
    /// Percent of its connections that it has to fail.
    pub ratio: u8,
    /// Connections that it has to have had.
    pub least: u32,
    /// The longest rest, in seconds.
    pub longest_secs: u32,
    /// Percent of the backends that may rest at a time; one in any case.
    pub share: u8,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        Self { window_secs: 10, ratio: 20, least: 20, longest_secs: 300, share: 30 }
    }
}

impl Ejection {
    /// Reads `on`, `off`, or settings such as `window=10s,ratio=20%,least=20,longest=300s,share=30%`. The error says what is
    /// wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => return Ok(Self::Off),
            "on" => return Ok(Self::On(EjectionSettings::default())),
            "" => return Err("it is empty: use on, off, or settings such as window=10s,ratio=20%".to_owned()),
            _ => {}
        }
        let mut settings = EjectionSettings::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((name, value)) = part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
                return Err(format!("{part:?} is no setting: use on, off, or settings such as window=10s,ratio=20%"));
            };
            if seen.contains(&name) {
                return Err(format!("{name} is there twice: keep one"));
            }
            seen.push(name);
            match name {
                "window" => settings.window_secs = number(name, value, "s", 1, 60)?,
                "ratio" => settings.ratio = number(name, value, "%", 1, 100)?,
                "least" => settings.least = number(name, value, "", 1, 1_000_000)?,
                "longest" => settings.longest_secs = number(name, value, "s", 1, 86_400)?,
                "share" => settings.share = number(name, value, "%", 1, 50)?,
                _ => {
                    return Err(format!("{name:?} is no setting: there is window, ratio, least, longest, share"));
                }
            }
        }
        if settings.longest_secs < u32::from(settings.window_secs) {
            let (longest, window) = (settings.longest_secs, settings.window_secs);
            return Err(format!("longest={longest}s is shorter than window={window}s, which is the first rest"));
        }
        Ok(Self::On(settings))
    }

    /// The settings; none: it is off.
    pub const fn settings(&self) -> Option<&EjectionSettings> {
        match self {
            Self::Off => None,
            Self::On(settings) => Some(settings),
        }
    }
}

/// A number with or without its unit.
fn number<N: TryFrom<u32>>(name: &str, value: &str, unit: &str, least: u32, most: u32) -> Result<N, String> {
    let digits = value.strip_suffix(unit).unwrap_or(value);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let found = digits.parse().ok().filter(|number| is_number && (least..=most).contains(number));
    found
        .and_then(|number: u32| N::try_from(number).ok())
        .ok_or_else(|| format!("{name} is {value:?}: use {least}{unit} to {most}{unit}"))
}

impl EjectionSettings {
    /// What happened for so long counts.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_secs.into())
    }

    /// How long a backend rests for the so-manieth time: each time twice as long.
    pub fn rest(&self, times: u32) -> Duration {
        let first = u64::from(self.window_secs);
        let doubled = first.saturating_mul(1_u64.checked_shl(times.saturating_sub(1)).unwrap_or(u64::MAX));
        Duration::from_secs(doubled.min(u64::from(self.longest_secs)))
    }

    /// How many of so many backends may rest at a time.
    pub fn most(&self, backends: usize) -> usize {
        if backends < 2 { 0 } else { (backends * usize::from(self.share) / 100).max(1) }
    }
}

impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On(EjectionSettings { window_secs, ratio, least, longest_secs, share }) = self else {
            return f.write_str("off");
        };
        write!(f, "window={window_secs}s,ratio={ratio}%,least={least},longest={longest_secs}s,share={share}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_and_without_units_and_written_back() {
        assert_eq!(Ejection::parse("off"), Ok(Ejection::Off));
        assert_eq!(Ejection::parse("on"), Ok(Ejection::On(EjectionSettings::default())));
        let some = Ejection::parse("window=5s, ratio=50,least=3,longest=60,share=10%").unwrap();
        assert_eq!(some.to_string(), "window=5s,ratio=50%,least=3,longest=60s,share=10%");
        for ejection in [Ejection::Off, Ejection::On(EjectionSettings::default()), some] {
            assert_eq!(Ejection::parse(&ejection.to_string()), Ok(ejection));
        }
    }

    #[test]
    fn settings_that_cannot_be_are_answered_with_what_is_wrong() {
        for (text, said) in [
            ("", "empty"),
            ("yes", "is no setting"),
            ("On", "is no setting"),
            ("window", "is no setting"),
            ("windows=1s", "there is window"),
            ("window=0s", "1s to 60s"),
            ("window=61", "1s to 60s"),
            ("window=5m", "1s to 60s"),
            ("ratio=0%", "1% to 100%"),
            ("ratio=101", "1% to 100%"),
            ("ratio=-5", "1% to 100%"),
            ("least=0", "1 to 1000000"),
            ("least=4294967296", "1 to 1000000"),
            ("longest=", "1s to 86400s"),
            ("share=51%", "1% to 50%"),
            ("share=10%,share=10%", "twice"),
            ("window=30s,longest=10s", "shorter"),
        ] {
            let wrong = Ejection::parse(text).unwrap_err();
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
    }

    #[test]
    fn rests_double_up_to_the_longest_and_one_backend_may_rest_in_any_case() {
        let settings = EjectionSettings::default();
        let rests: Vec<u64> = [1, 2, 3, 5, 6, 200].map(|times| settings.rest(times).as_secs()).into();
        assert_eq!(rests, [10, 20, 40, 160, 300, 300]);
        assert_eq!([0, 1, 2, 3, 10, 100].map(|backends| settings.most(backends)), [0, 0, 1, 1, 3, 30]);
    }
}
