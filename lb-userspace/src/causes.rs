//! An error and what is behind it, in one line.

use std::error::Error;

/// The message of an error, followed by those of its causes. A cause that the text already quotes is not repeated.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layer {
        #[error("map FLOWS4")]
        Plain(#[source] std::io::Error),
        #[error("cannot start: {0}")]
        Quoting(#[source] Box<Layer>),
    }

    #[test]
    fn each_cause_is_told_once() {
        let inner = Layer::Plain(std::io::Error::other("no space"));
        assert_eq!(with_causes(&inner), "map FLOWS4: no space");
        assert_eq!(with_causes(&Layer::Quoting(Box::new(inner))), "cannot start: map FLOWS4: no space");
    }
}
