//! A picture of `sluice top` for the documents: what it draws on a terminal, as SVG.
//! `SLUICE_BLESS=1 cargo test -p lb-userspace --lib picture` writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lb_common::abi::{Counter, StatsValue};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::rates::{By, Sample, between};
use super::screen::View;
use crate::maps::causes::Cause;
use crate::maps::traffic::Traffic;
use crate::model::family::Family;
use crate::plan::Existing;

const PICTURE: &str = "docs/pictures/top.svg";
/// Size of a character, and what is around all of them.
const CELL: (u16, u16) = (8, 17);
const MARGIN: u16 = 10;
const PAPER: &str = "#1d2021";

/// Service ports of a shop: connections of a second, and how many of them were unanswered, refused, and failed.
const SHOP: [(&str, [u64; 4]); 9] = [
    ("shop/payments:grpc/TCP", [190, 46, 0, 0]),
    ("shop/search:http/TCP", [75, 0, 31, 0]),
    ("shop/orders:http/TCP", [0, 0, 0, 12]),
    ("kube-system/kube-dns:dns/UDP", [5_210, 0, 0, 0]),
    ("shop/storefront:http/TCP", [1_830, 0, 0, 0]),
    ("shop/catalogue:http/TCP", [960, 0, 0, 0]),
    ("ingress/gateway:https/TCP", [702, 0, 0, 0]),
    ("monitoring/prometheus:web/TCP", [14, 0, 0, 0]),
    ("default/kubernetes:https/TCP", [9, 0, 0, 0]),
];

fn shop(at: Instant, seconds: u64) -> Sample {
    let (mut names, mut traffic, mut causes) = (Vec::new(), Traffic::default(), Vec::new());
    for (id, (name, of_second)) in (1..).zip(SHOP) {
        let [connections, unanswered, refused, failed] = of_second.map(|amount| amount * seconds);
        names.push((id, Family::V4, name.to_owned()));
        let counted = StatsValue {
            connections,
            unanswered,
            refused,
            packets: 9 * connections,
            bytes: 1_400 * connections,
            reply_packets: 8 * (connections - unanswered),
            reply_bytes: 23_000 * (connections - unanswered),
            ..StatsValue::default()
        };
        traffic.add(Family::V4, id, id, &counted);
        causes.push(Cause { service: id, counter: Counter::RejectNoEndpoints, count: failed, last_ns: 0 });
    }
    Sample::new(at, &Existing { names, ..Existing::default() }, &traffic, &causes)
}

/// Colours of a character and of its paper.
fn colours(cell: &Cell) -> (&'static str, &'static str) {
    let ink = match cell.fg {
        Color::Red => "#fb4934",
        Color::DarkGray => "#928374",
        _ => "#ebdbb2",
    };
    if cell.modifier.contains(Modifier::REVERSED) { (PAPER, ink) } else { (ink, PAPER) }
}

/// What a terminal shows: a rectangle for each piece of other paper, and a text for each piece of one style.
fn svg(screen: &Buffer) -> String {
    let (columns, rows) = (screen.area.width, screen.area.height);
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, rows * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <title>sluice top</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\" xml:space=\"preserve\">\n"
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let style = |x: u16| (colours(&screen[(x, y)]), screen[(x, y)].modifier.contains(Modifier::BOLD));
            let ((ink, paper), bold) = style(x);
            let end = (x..columns).find(|at| style(*at) != style(x)).unwrap_or(columns);
            let text: String = (x..end).map(|at| screen[(at, y)].symbol()).collect();
            let (left, top, long) = (MARGIN + x * CELL.0, MARGIN + y * CELL.1, (end - x) * CELL.0);
            if paper != PAPER {
                writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{long}\" height=\"{}\" fill=\"{paper}\"/>",
                    CELL.1
                )
                .unwrap();
            }
            let shown = text.trim_end();
            if !shown.is_empty() {
                let weight = if bold { " font-weight=\"bold\"" } else { "" };
                let (base, long) = (top + 13, u16::try_from(shown.chars().count()).unwrap() * CELL.0);
                let shown = shown.replace('&', "&amp;").replace('<', "&lt;");
                writeln!(
                    svg,
                    "<text x=\"{left}\" y=\"{base}\" textLength=\"{long}\" fill=\"{ink}\"{weight}>{shown}</text>"
                )
                .unwrap();
            }
            x = end;
        }
    }
    svg + "</g>\n</svg>\n"
}

#[test]
fn the_picture_in_the_documents_is_what_top_draws() {
    let begin = Instant::now();
    let (before, after) = (shop(begin, 100), shop(begin + Duration::from_secs(1), 101));
    let (rows, millis) = between(&before, &after, false, By::Errors);
    let mut terminal = Terminal::new(TestBackend::new(120, 14)).unwrap();
    terminal.draw(|frame| View::default().draw(frame, &rows, millis)).unwrap();
    let picture = svg(terminal.backend().buffer());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(PICTURE);
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &picture).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == picture, "{PICTURE} is another: if this is wanted, SLUICE_BLESS=1 writes it");
    let document = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    assert!(document.contains("](pictures/top.svg)"), "a document shows the picture");
}
