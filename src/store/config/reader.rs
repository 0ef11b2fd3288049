//! Values of the merged files.

use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;

/// A view of the merged files that knows which file to blame.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) root: &'a Table,
}

impl Reader<'_> {
    pub(super) fn find(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.root.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }

    pub(super) fn fail(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Type {
            path: self.path.to_owned(),
            key: key.to_owned(),
            expected,
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.fail(key, "a string")),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let fail = || self.fail(key, "an array of strings");
        match self.find(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .filter(|value| !value.is_table())
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(fail))
                .collect(),
            Some(_) => Err(fail()),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.find(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(*flag),
            Some(_) => Err(self.fail(key, "true or false")),
        }
    }

    /// A number that is not there is 0.
    pub(super) fn number(&self, key: &str) -> Result<u32, ConfigError> {
        let number = match self.find(key) {
            None => Some(0),
            Some(Value::Integer(number)) => u32::try_from(*number).ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| self.fail(key, "a number from 0 to 4294967295"))
    }

    /// Every scalar of a table.
    pub(super) fn pairs(&self, table: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(value) = self.find(table) else {
            return Ok(Vec::new());
        };
        let entries = value
            .as_table()
            .ok_or_else(|| self.fail(table, "a table"))?;
        let mut pairs = Vec::new();
        for (key, value) in entries {
            let text = scalar(key, value)
                .ok_or_else(|| self.fail(&format!("{table}.{key}"), "a string"))?;
            pairs.push((key.clone(), text));
        }
        Ok(pairs)
    }
}

/// A scalar as text; a mask as a number is written in octal.
pub(super) fn scalar(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Integer(number) if key == "force_mask" => Some(format!("{number:o}")),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}
