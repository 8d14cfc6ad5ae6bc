//! Single rules and refusals, by example.
