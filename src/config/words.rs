//! What is wrong with a value, in the words of somebody who writes the file: what to write, and what stands there.
use figment::error::{Actual, Kind};

/// An error in plain words, without figment's own places.
pub(super) fn words(error: &figment::Error) -> String {
    match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("must be {}, but is {}", wanted(&expected.to_string()), written(found))
        }
        Kind::UnknownVariant(found, known) => {
            let near = known.iter().find(|word| strsim::jaro_winkler(word, found) > 0.8);
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            format!("`{found}` is not one of {}{hint}", known.join(", "))
        }
        kind => kind.to_string(),
    }
}

/// What to write, for what serde calls a type.
fn wanted(expected: &str) -> String {
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => return "a whole number, not below 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => return "a whole number".to_owned(),
        "f32" | "f64" => return "a number".to_owned(),
        "bool" | "a boolean" => return "true or false".to_owned(),
        "a string" | "a borrowed string" | "path string" => return "a text in quotes".to_owned(),
        "a sequence" => return "a list in [ ]".to_owned(),
        "a map" => return "a table".to_owned(),
        kind if kind.starts_with("struct ") => return "a table".to_owned(),
        kind if kind.starts_with("enum ") => return "a word in quotes".to_owned(),
        own => return own.to_owned(),
    };
    format!("a whole number from 0 to {most}")
}

/// What stands there, as it is written in a file.
fn written(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("`{value}`"),
        Actual::Signed(value) => format!("`{value}`"),
        Actual::Float(value) => format!("`{value}`"),
        Actual::Str(text) => format!("the text {text:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}
