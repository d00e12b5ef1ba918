//! What stands in the files by now and is not in force: a running box keeps the configuration that it was started with.
use super::{Config, report};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// The configuration in force, and the files that it came from.
#[derive(Clone, Debug)]
pub struct Unforced {
    in_force: Arc<Value>,
    files: Vec<PathBuf>,
}

impl Unforced {
    #[must_use]
    pub fn new(config: &Config, files: &[PathBuf]) -> Self {
        Self {
            in_force: Arc::new(value(config)),
            files: files.to_vec(),
        }
    }

    /// What an operator is to know of the files as they are now; `None` when they say what is in force. Reads them: blocking.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        // What is wrong with the rule folder alone is told by its own reload, and does not keep this box from starting.
        let found = report(&self.files);
        let Some(config) = found.config.or(found.but_for_rules) else {
            return Some(
                "the configuration files are wrong now (see `waystation check`): the box would not start again"
                    .to_owned(),
            );
        };
        let mut keys = Vec::new();
        differ(&self.in_force, &value(&config), "", &mut keys);
        let more = keys.len().saturating_sub(SHOWN);
        keys.truncate(SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        (!keys.is_empty()).then(|| {
            format!(
                "changed in the configuration, and in force after a restart: {}{more}",
                keys.join(", ")
            )
        })
    }
}

fn value(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// The keys under which two values differ, as `waystation check` writes them.
fn differ(one: &Value, other: &Value, key: &str, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                let at = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                differ(&at(one), &at(other), &key, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() && one.iter().all(Value::is_object) => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differ(one, other, &format!("{key}[{index}]"), found);
            }
        }
        _ if one != other => found.push(key.to_owned()),
        _ => {}
    }
}

/// Keys in one line.
const SHOWN: usize = 8;
