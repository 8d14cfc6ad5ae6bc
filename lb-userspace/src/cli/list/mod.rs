//! Lists, with kubectl's habits: selection, forms, sorting, watching. What is in a list is its sub-command's affair.

pub(super) mod amount;
mod form;
mod grid;
mod jsonpath;
mod labels;
mod print;
mod select;
mod sort;
mod terminal;
mod wrap;

#[cfg(test)]
pub(super) mod golden;

pub(super) use self::form::Form;
pub(super) use self::grid::{Grid, Shown, Width};
pub(super) use self::print::{FormArgs, Found, ListArgs, Listed};
pub(super) use self::select::{Owner, SelectArgs, service_port};
pub(super) use self::terminal::width as form_width;
pub(super) use self::wrap::wrapped;
