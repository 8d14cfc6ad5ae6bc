//! How wide the output may be.

use super::form::Form;
use super::grid::Width;

/// `$COLUMNS`, else the terminal's; without either nothing is cut.
pub(in crate::cli) fn width(form: &Form) -> Width {
    if matches!(form, Form::Wide) {
        return Width::Wide;
    }
    let given = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    // Only where the output is one.
    let of_terminal = || comfy_table::Table::new().width().map(usize::from);
    given.or_else(of_terminal).map_or(Width::Unlimited, Width::Columns)
}
