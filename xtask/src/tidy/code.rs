//! A source file as tokens, without comments and without what is compiled for tests only.

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::files::TextFile;
use super::module_tree::{attributes, only_for_tests};

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Its text; a literal's with its quotes.
    pub(super) text: String,
    /// Its line.
    pub(super) line: usize,
}

/// The tokens of a file's code.
pub(super) fn tokens(file: &TextFile) -> Result<Vec<Token>> {
    let syntax = syn::parse_file(&file.text).with_context(|| format!("parsing {}", file.path))?;
    let mut found = Vec::new();
    for item in syntax.items.iter().filter(|item| !only_for_tests(attributes(item))) {
        flatten(item.to_token_stream(), &mut found);
    }
    Ok(found)
}

/// The tokens of a pattern such as `flow_action::`.
pub(super) fn pattern(text: &str) -> Result<Vec<String>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("\"{text}\": {error}"))?;
    let mut found = Vec::new();
    flatten(stream, &mut found);
    Ok(found.into_iter().map(|token| token.text).collect())
}

fn flatten(stream: TokenStream, found: &mut Vec<Token>) {
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let line = token.span().start().line;
        match token {
            // An attribute, of which only documentation is left out.
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_documentation(tokens.peek()) => {
                tokens.next();
            }
            TokenTree::Group(group) => flatten(group.stream(), found),
            other => found.push(Token { text: other.to_string(), line }),
        }
    }
}

fn is_documentation(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}
