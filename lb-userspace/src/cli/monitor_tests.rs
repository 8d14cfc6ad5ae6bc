//! Tests of `sluice monitor`'s lines.

use lb_common::datapath::Reason;

use super::*;
use crate::cli::list::golden;

#[test]
fn the_document_has_what_is_printed() {
    let row = |clock: &str, event, reason, port: u16, to: (&str, &str), service: &str| Row {
        time: format!("2026-11-29T{clock}Z"),
        event,
        reason,
        protocol: "TCP".to_owned(),
        source: SocketAddr::new("10.90.0.100".parse().unwrap(), port),
        destination: to.0.parse().unwrap(),
        translated_source: None,
        translated_destination: to.1.parse().ok(),
        service: service.to_owned(),
        backend_id: 0,
        device: String::new(),
        bytes: 60,
    };
    let (web, db) = (("10.96.0.10:80", "10.244.128.2:8080"), ("10.96.0.11:80", ""));
    let rows = [
        row("09:15:02.114", Kind::New, Reason::NEW_FLOW.name(), 41022, web, "shop/web:http/TCP"),
        row("09:15:02.870", Kind::Refused, "reject_no_endpoints", 41024, db, "shop/db:sql/TCP"),
        row("09:15:03.201", Kind::Ended, Ending::Closed.name(), 41022, web, "shop/web:http/TCP"),
    ];
    let lines: Vec<String> = std::iter::once(line(HEADINGS)).chain(rows.iter().map(Row::line)).collect();
    golden::assert_documented("docs/operations.md", &lines.join("\n"));
}

#[test]
fn a_service_is_known_by_its_name_with_or_without_a_port() {
    let name = "shop/web:http/TCP";
    assert!(["shop/web", "shop/web:http", "shop/web:http/TCP"].iter().all(|wanted| is_of_service(name, wanted)));
    assert!(["shop/we", "shop", "shop/web:ht", "other/web"].iter().all(|wanted| !is_of_service(name, wanted)));
}

#[test]
fn a_time_has_milliseconds() {
    assert_eq!(time(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123Z");
    assert_eq!(
        line(["1", "new", "", "TCP", "a", "b", "c", ""]),
        "1             new                              TCP   a                     b                     c"
    );
}
