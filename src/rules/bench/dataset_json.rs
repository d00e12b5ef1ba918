//! The attributes of a fixture as JSON: the DICOM JSON Model (PS3.18 Annex F.2), as `dcm2json` and DICOMweb write it, or the
//! short form with keywords, `{"PatientID": "4711", "RequestAttributesSequence": [{"AccessionNumber": "77"}]}`.
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Nested sequences in one file.
const DEPTH_MAX: usize = 16;

/// All text attributes as path and values. What holds no text (pixels, bulk data) cannot be given.
///
/// # Errors
/// In words, with the attribute's name and never its value.
pub(super) fn attributes(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let whole: Value = serde_json::from_str(text).map_err(|e| format!("line {}: it is not JSON", e.line()))?;
    // A file of `dcm2json` is one object, an answer of QIDO-RS an array of them.
    let object = match &whole {
        Value::Array(all) if all.len() == 1 => &all[0],
        other => other,
    };
    let Value::Object(object) = object else {
        return Err("it must be one object with attributes".to_owned());
    };
    let mut found = BTreeMap::new();
    gather(object, "", 0, &mut found)?;
    Ok(found)
}

fn gather(
    object: &Map<String, Value>,
    above: &str,
    depth: usize,
    found: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{above} is nested too deeply"));
    }
    for (name, value) in object {
        let path = format!("{above}{}", element(name));
        if path.starts_with("(0002,") {
            continue;
        }
        match value {
            Value::Object(model) if model.contains_key("vr") => of_model(model, &path, depth, found)?,
            Value::Array(all) if all.iter().any(Value::is_object) => items(all, &path, depth, found)?,
            Value::Array(all) => drop(found.insert(path.clone(), texts(all, &path)?)),
            one => drop(found.insert(path.clone(), texts(std::slice::from_ref(one), &path)?)),
        }
    }
    Ok(())
}

/// `00100020` as rules name it; anything else is a keyword or a path already.
fn element(name: &str) -> String {
    if name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        format!("({},{})", &name[..4], &name[4..])
    } else {
        name.to_owned()
    }
}

fn of_model(
    model: &Map<String, Value>,
    path: &str,
    depth: usize,
    found: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    if model.contains_key("BulkDataURI") || model.contains_key("InlineBinary") {
        return Err(format!(
            "{path}: binary values cannot be given; leave it out or use a DICOM file"
        ));
    }
    let all = match model.get("Value") {
        None => &Vec::new(),
        Some(Value::Array(all)) => all,
        Some(_) => return Err(format!("{path}: `Value` must be an array")),
    };
    if model.get("vr").and_then(Value::as_str) == Some("SQ") {
        return items(all, path, depth, found);
    }
    found.insert(path.to_owned(), texts(all, path)?);
    Ok(())
}

fn items(all: &[Value], path: &str, depth: usize, found: &mut BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (at, item) in all.iter().enumerate() {
        let Value::Object(item) = item else {
            return Err(format!("{path}[{at}]: an item must be an object"));
        };
        gather(item, &format!("{path}[{at}]."), depth + 1, found)?;
    }
    Ok(())
}

fn texts(all: &[Value], path: &str) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Object(name) => person(name).ok_or_else(|| format!("{path}: this object is no person name")),
        Value::Bool(_) | Value::Array(_) => Err(format!("{path}: a value is a text or a number")),
    };
    all.iter().map(one).collect()
}

/// The groups of a person name, joined as the element holds them.
fn person(name: &Map<String, Value>) -> Option<String> {
    let group = |key: &str| name.get(key).and_then(Value::as_str).unwrap_or_default();
    let known = ["Alphabetic", "Ideographic", "Phonetic"];
    let strange = name.keys().any(|key| !known.contains(&key.as_str()));
    let joined = known.map(group).join("=");
    (!strange).then(|| joined.trim_end_matches('=').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dicom_model_and_the_short_form_say_the_same() {
        let model = r#"[{"00020010": {"vr": "UI", "Value": ["1.2"]}, "00100020": {"vr": "LO", "Value": ["4711"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Phonetic": "x"}]}, "00080050": {"vr": "SH"},
            "00280010": {"vr": "US", "Value": [512]},
            "00400275": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": ["77"]}}]}}]"#;
        let found = attributes(model).unwrap();
        assert_eq!(found["(0010,0020)"], ["4711"]);
        assert_eq!(found["(0010,0010)"], ["Yamada^Tarou==x"]);
        assert_eq!(found["(0008,0050)"], [""; 0]);
        assert_eq!(found["(0028,0010)"], ["512"]);
        assert_eq!(found["(0040,0275)[0].(0008,0050)"], ["77"]);
        assert_eq!(found.len(), 5);
        let short =
            r#"{"PatientID": "4711", "ImageType": ["A", "B"], "RequestAttributesSequence": [{"AccessionNumber": 77}]}"#;
        let found = attributes(short).unwrap();
        assert_eq!(found["ImageType"], ["A", "B"]);
        assert_eq!(found["RequestAttributesSequence[0].AccessionNumber"], ["77"]);
    }

    #[test]
    fn what_cannot_be_given_is_named_without_its_value() {
        for (text, words) in [
            ("{", "not JSON"),
            ("[1, 2]", "one object"),
            (
                r#"{"7FE00010": {"vr": "OW", "InlineBinary": "SECRET"}}"#,
                "(7FE0,0010): binary",
            ),
            (r#"{"PatientName": {"First": "SECRET"}}"#, "no person name"),
            (r#"{"00400275": {"vr": "SQ", "Value": ["SECRET"]}}"#, "[0]: an item"),
        ] {
            let error = attributes(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("SECRET"), "{error}");
        }
    }
}
