//! Metric families with values that come from elsewhere, and the limit on their number of rows.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// One row: labels and value.
pub type Row<'a> = (Vec<(&'a str, String)>, f64);

/// Families in the making. Rows beyond the limit are left out and counted.
#[derive(Debug)]
pub struct Families {
    limit: usize,
    done: Vec<MetricFamily>,
    left_out: Vec<(String, usize)>,
}

impl Families {
    /// At most this many rows for one family.
    pub const fn new(limit: usize) -> Self {
        Self { limit, done: Vec::new(), left_out: Vec::new() }
    }

    /// Adds a family of counters.
    pub fn counters<'a>(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = Row<'a>>) {
        self.add(name, help, MetricType::COUNTER, rows);
    }

    /// Adds a family of gauges.
    pub fn gauges<'a>(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = Row<'a>>) {
        self.add(name, help, MetricType::GAUGE, rows);
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.done.iter().map(|family| family.get_metric().len()).sum()
    }

    /// Notes that a family has rows that were not made.
    pub fn leave_out(&mut self, name: &str, rows: usize) {
        if rows > 0 {
            self.left_out.push((name.to_owned(), rows));
        }
    }

    fn add<'a>(&mut self, name: &str, help: &str, kind: MetricType, rows: impl IntoIterator<Item = Row<'a>>) {
        let mut metrics = Vec::new();
        let mut left_out = 0;
        for (labels, value) in rows {
            if metrics.len() >= self.limit {
                left_out += 1;
                continue;
            }
            let mut metric = Metric::default();
            metric.set_label(labels.into_iter().map(|(name, value)| pair(name, value)).collect());
            if kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metrics.push(metric);
        }
        self.leave_out(name, left_out);
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.done.push(family);
    }

    /// All of them, and what was left out.
    pub fn finish(mut self) -> Vec<MetricFamily> {
        let left_out = std::mem::take(&mut self.left_out);
        let rows = left_out.into_iter().map(|(family, rows)| (vec![("family", family)], count(rows)));
        self.gauges("sluice_metric_rows_left_out", "Rows beyond the limit of --metrics-max-series", rows);
        self.done
    }
}

fn pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

/// A number of things as Prometheus has them.
#[expect(clippy::cast_precision_loss, reason = "a metric is a double; above 2^53 the last digits do not matter")]
pub const fn count(number: usize) -> f64 {
    number as f64
}

/// The same for a counter.
#[expect(clippy::cast_precision_loss, reason = "a metric is a double; above 2^53 the last digits do not matter")]
pub const fn total(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_limit_are_counted_instead() {
        let mut families = Families::new(2);
        let row = |n: usize| (vec![("device", format!("veth{n}"))], 1.0);
        families.gauges("sluice_x", "X", (0..5).map(row));
        let done = families.finish();
        assert_eq!(done[0].get_metric().len(), 2);
        assert_eq!(done[1].name(), "sluice_metric_rows_left_out");
        assert!((done[1].get_metric()[0].get_gauge().get_value() - 3.0).abs() < f64::EPSILON);
    }
}
