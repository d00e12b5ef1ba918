//! What is wrong with a value, in the words of somebody who writes the file: what to write, and what stands there.
use figment::error::{Actual, Kind};

/// An error in plain words, without figment's own places.
pub(super) fn words(error: &figment::Error) -> String {
    match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let mut wanted = wanted(&expected.to_string());
            if error.path.last().is_some_and(|key| key == "port") {
                wanted = wanted.replace("from 0 to", "from 1 to");
            }
            format!("must be {wanted}, but is {}", written(found))
        }
        Kind::UnknownVariant(found, known) => {
            let near = known.iter().find(|word| strsim::jaro_winkler(word, found) > 0.8);
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            format!("`{found}` is not one of {}{hint}", known.join(", "))
        }
        Kind::Message(said) if said == NO_SOCKET_ADDRESS => format!("must be {SOCKET_ADDRESS}"),
        kind => kind.to_string(),
    }
}

/// What the standard library says of a text that is none.
const NO_SOCKET_ADDRESS: &str = "invalid socket address syntax";
const SOCKET_ADDRESS: &str =
    "an address and a port, such as \"127.0.0.1:9464\" or \"[::]:11112\": no name, and a port from 0 to 65535";

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
        "socket address" => return SOCKET_ADDRESS.to_owned(),
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
