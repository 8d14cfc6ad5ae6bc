//! `-o`: the forms that lists are printed in.

use std::str::FromStr;

use anyhow::Context;
use serde::Serialize;

use super::jsonpath::Template;

/// Form of a list.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) enum Form {
    /// What the terminal has room for.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// A name a line.
    Name,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
    /// What a template of paths takes out of the JSON.
    JsonPath(Template),
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(template) = text.strip_prefix("jsonpath=") {
            return template.parse().map(Self::JsonPath);
        }
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "name" => Ok(Self::Name),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "jsonpath" => Err("a template is missing: -o jsonpath='{.items[*].service}'".to_owned()),
            _ => Err("the forms are table, wide, name, json, yaml and jsonpath=TEMPLATE".to_owned()),
        }
    }
}

impl Form {
    /// A value in a form for machines.
    pub(in crate::cli) fn serialise<T: Serialize>(&self, value: &T) -> anyhow::Result<String> {
        match self {
            Self::Yaml => serde_saphyr::to_string(value).context("cannot write YAML"),
            Self::JsonPath(template) => Ok(template.print(serde_json::to_value(value).context("cannot write JSON")?)),
            _ => serde_json::to_string_pretty(value).context("cannot write JSON"),
        }
    }
}
