//! A text behind a word, over as many lines as its width needs.

use super::grid::Width;

/// Lines that begin with `head`, or with as much room. A word that is longer than a line stays whole.
pub(in crate::cli) fn wrapped(head: &str, text: &str, width: Width) -> Vec<String> {
    let Width::Columns(columns) = width else { return vec![format!("{head}{text}")] };
    let indent = head.chars().count();
    let mut lines = vec![head.to_owned()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let is_first = used == indent;
        if !is_first && used + 1 + length > columns {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        let Some(line) = lines.last_mut() else { continue };
        if used > indent {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_lines_begin_below_each_other() {
        let lines = wrapped("Rule: ", "none of them is ready", Width::Columns(16));
        assert_eq!(lines, ["Rule: none of", "      them is", "      ready"]);
        assert_eq!(wrapped("A: ", "0123456789 b", Width::Columns(6)), ["A: 0123456789", "   b"]);
        assert_eq!(wrapped("A: ", "b  c", Width::Unlimited), ["A: b  c"]);
        assert_eq!(wrapped("A: ", "", Width::Columns(6)), ["A: "]);
    }
}
