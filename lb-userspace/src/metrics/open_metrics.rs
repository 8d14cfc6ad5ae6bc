//! The `OpenMetrics` form of a scrape (`application/openmetrics-text`), made from the Prometheus text.

/// The content type.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a client prefers it: Prometheus names it first where it wants it.
pub(super) fn is_asked_for(accept: &str) -> bool {
    let place = |kind: &str| accept.find(kind).unwrap_or(usize::MAX);
    place("application/openmetrics-text") < place("text/plain").min(place("*/*"))
}

/// A counter's family is named without the `_total` of its rows, and the text has an end.
pub(super) fn from_prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut help = None;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", ..] => {
                help = Some(words);
                continue;
            }
            ["#", "TYPE", name, kind] => {
                let family = if *kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { *name };
                if let Some(["#", "HELP", _, words]) = help.take().as_deref() {
                    out.extend(["# HELP ", family, " ", *words, "\n"]);
                }
                out.extend(["# TYPE ", family, " ", *kind]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_without_their_suffix_and_the_text_has_an_end() {
        let text = "# HELP x_total What x is\n# TYPE x_total counter\nx_total{a=\"b c\"} 7\n# HELP y Y\n# TYPE y gauge\ny 1.5\n";
        let expected =
            "# HELP x What x is\n# TYPE x counter\nx_total{a=\"b c\"} 7\n# HELP y Y\n# TYPE y gauge\ny 1.5\n# EOF\n";
        assert_eq!(from_prometheus(text), expected);
    }

    #[test]
    fn who_prefers_it_gets_it() {
        assert!(is_asked_for(
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(!is_asked_for("text/plain;version=0.0.4,application/openmetrics-text;q=0.1"));
        assert!(!is_asked_for("*/*") && !is_asked_for(""));
    }
}
