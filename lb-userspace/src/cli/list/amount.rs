//! Amounts for people: ages as kubectl prints them, bytes, the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch.
pub(in crate::cli) fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// How long ago a time since the epoch was; `-` for 0, which is not known.
pub(in crate::cli) fn ago(ns: u64) -> String {
    if ns == 0 {
        return "-".to_owned();
    }
    age(Duration::from_nanos(now_ns().saturating_sub(ns)).as_secs())
}

/// As kubectl has it: two units where the first is small.
pub(in crate::cli) fn age(secs: u64) -> String {
    let (mins, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    let two = |big: u64, unit: char, small: u64, sub: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{sub}"),
    };
    match secs {
        0..120 => format!("{secs}s"),
        120..600 => two(mins, 'm', secs % 60, 's'),
        600..10_800 => format!("{mins}m"),
        10_800..28_800 => two(hours, 'h', mins % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

/// `1.5Ki`: at most six characters.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "two digits of it are shown")]
pub(in crate::cli) fn bytes(number: u64) -> String {
    if number < 1024 {
        return number.to_string();
    }
    let (mut rest, mut unit) = (number as f64 / 1024.0, "Ki");
    for next in ["Mi", "Gi", "Ti", "Pi"] {
        if rest < 999.5 {
            break;
        }
        (rest, unit) = (rest / 1024.0, next);
    }
    if rest < 9.95 { format!("{rest:.1}{unit}") } else { format!("{rest:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls_and_bytes_are_short() {
        let ages = [0, 119, 125, 600, 10_799, 11_000, 90_000, 200_000, 864_000, 70_000_000].map(age);
        assert_eq!(ages, ["0s", "119s", "2m5s", "10m", "179m", "3h3m", "25h", "2d7h", "10d", "2y80d"]);
        let sizes = [0, 1023, 1024, 15_000, 1_048_000, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0", "1023", "1.0Ki", "15Ki", "1.0Mi", "5.0Ti"]);
    }
}
