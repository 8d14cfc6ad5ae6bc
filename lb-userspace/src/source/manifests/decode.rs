//! One piece of a file to one object.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::plain::to_json;
use super::split::{Form, Piece, top_level};
use crate::model::event::{Kind, Object};
use crate::source::objects::{ApiObject, for_each_kind};

/// Why a piece could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {message}")]
pub struct Unreadable {
    /// Line of the file.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
}

/// The object of a piece; none when it is of a kind that is of no interest.
pub(super) fn decode(piece: &Piece<'_>) -> Result<Option<Object>, Unreadable> {
    let head = head(piece)?;
    let kind = head.kind.as_deref().or(piece.item_kind);
    let Some(kind) = kind else {
        return Err(Unreadable {
            line: piece.line,
            message: "the document has no kind: add apiVersion and kind".into(),
        });
    };
    let Some(object) = parse_kind(kind, head.api_version.as_deref(), piece)? else { return Ok(None) };
    if object.name().is_empty() {
        let message = format!("the {kind} has no metadata.name: give it one");
        return Err(Unreadable { line: piece.line, message });
    }
    Ok(Some(object))
}

/// Parses a piece of one of the kinds that are read; a piece without a version is of any.
fn parse_kind(kind: &str, api_version: Option<&str>, piece: &Piece<'_>) -> Result<Option<Object>, Unreadable> {
    macro_rules! try_kind {
        ($api:ty) => {
            if is_of_kind::<$api>(kind, api_version) {
                return Ok(Some(parse::<$api>(piece)?.into_object()));
            }
            if <$api>::IN_MANIFESTS && kind.strip_suffix("List") == Some(<$api as ApiObject>::KIND.name()) {
                return Err(unreadable_list(piece));
            }
        };
    }
    for_each_kind!(try_kind);
    if kind == "List" { Err(unreadable_list(piece)) } else { Ok(None) }
}

/// Whether a piece of this kind and version is read as this type.
pub(super) fn is_of_kind<K: ApiObject>(kind: &str, api_version: Option<&str>) -> bool {
    K::IN_MANIFESTS && kind == <K as ApiObject>::KIND.name() && api_version.is_none_or(is_of_group::<K>)
}

/// The core group has one version; in others a newer version is read by the fields that are known.
fn is_of_group<K: k8s_openapi::Resource>(version: &str) -> bool {
    match version.split_once('/') {
        Some((group, _)) => group == K::GROUP,
        None => K::GROUP.is_empty() && version == K::VERSION,
    }
}

fn unreadable_list(piece: &Piece<'_>) -> Unreadable {
    let message = "the list's items are not written one below the other: use block style, or JSON".into();
    Unreadable { line: piece.line, message }
}

/// What names an object, in messages and among files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

impl Key {
    pub(super) fn of(object: &Object) -> Self {
        Self { kind: object.kind(), namespace: object.namespace().into(), name: object.name().into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, namespace, name } = self;
        match &**namespace {
            "" => write!(f, "{} {name}", kind.name()),
            namespace => write!(f, "{} {namespace}/{name}", kind.name()),
        }
    }
}

/// The kind of a piece, where it can be read.
pub(super) fn kind_of(piece: &Piece<'_>) -> Option<String> {
    head(piece).ok()?.kind.or_else(|| piece.item_kind.map(str::to_owned))
}

/// Kind and version. In block style they are found without parsing, elsewhere the piece is read twice.
pub(super) fn head(piece: &Piece<'_>) -> Result<Head, Unreadable> {
    let kind = match piece.form {
        Form::Yaml | Form::YamlItem => top_level(piece.text, "kind"),
        Form::Json => None,
    };
    let known = kind.or(piece.item_kind.filter(|_| piece.form == Form::YamlItem));
    if let Some(kind) = known {
        let api_version = top_level(piece.text, "apiVersion").map(str::to_owned);
        return Ok(Head { api_version, kind: Some(kind.to_owned()) });
    }
    parse(piece)
}

/// A piece as this type.
pub(super) fn parse<T: DeserializeOwned>(piece: &Piece<'_>) -> Result<T, Unreadable> {
    let beyond = |line: u64| piece.line + usize::try_from(line).unwrap_or(1).saturating_sub(1);
    match piece.form {
        Form::Json => serde_json::from_str(piece.text)
            .map_err(|error| Unreadable { line: beyond(error.line() as u64), message: error.to_string() }),
        // Whatever the fast way cannot read, or reads as wrong, is for the YAML reader to judge.
        Form::Yaml => match plain::<T>(piece.text) {
            Some(object) => Ok(object),
            None => yaml::<T>(piece.text, beyond),
        },
        Form::YamlItem => match plain::<Vec<T>>(piece.text).map_or_else(|| yaml(piece.text, beyond), Ok)?.pop() {
            Some(object) => Ok(object),
            None => Err(Unreadable { line: piece.line, message: "the list item is empty: remove it".into() }),
        },
    }
}

fn plain<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(&to_json(text)?).ok()
}

fn yaml<T: DeserializeOwned>(text: &str, beyond: impl Fn(u64) -> usize) -> Result<T, Unreadable> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        emit_comments: false,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        // The reader counts lines from the piece's start; the file's line is said once, by us.
        let message = error.without_snippet().to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_owned();
        Unreadable { line: beyond(line), message }
    })
}
