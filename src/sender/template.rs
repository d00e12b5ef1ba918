//! Names of files in a destination folder, from a template. What comes out is always safe: parts of `[A-Za-z0-9._-]`,
//! never empty, never beginning with a dot, never longer than `PART_MAX`; no value from a data set can leave the folder.
use crate::dicom::head::Head;
use crate::dicom::path::Path;
use std::path::PathBuf;

/// A parsed template: folders, and the file's name last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    parts: Vec<Vec<Token>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Text(String),
    Value(Path),
}

/// Why a text is no template.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{` and `}}` do not match")]
    Braces,
    #[error("a part between two `/` is empty")]
    EmptyPart,
    #[error("more than {0} parts")]
    TooDeep(usize),
    #[error(transparent)]
    Path(#[from] crate::dicom::path::PathError),
}

/// The longest value of an attribute in a name; a UID fits whole.
const VALUE_MAX: usize = 64;
/// The longest part of a name: under the 255 bytes of every file system, with room for `_1000` and a temporary suffix.
const PART_MAX: usize = 160;
/// Folders and file name.
const PARTS_MAX: usize = 16;

impl Template {
    /// # Errors
    /// See `TemplateError`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = split_parts(text)?
            .into_iter()
            .map(tokens)
            .collect::<Result<Vec<_>, _>>()?;
        if parts.len() > PARTS_MAX {
            return Err(TemplateError::TooDeep(PARTS_MAX));
        }
        Ok(Self { parts })
    }

    /// The relative path for a data set with this head.
    #[must_use]
    pub fn expand(&self, head: &Head) -> PathBuf {
        self.with(|path| first_value(head, path))
    }

    fn with(&self, value: impl Fn(&Path) -> String) -> PathBuf {
        let mut out = PathBuf::new();
        for part in &self.parts {
            let mut name = String::new();
            for token in part {
                match token {
                    Token::Text(text) => name.push_str(&safe(text)),
                    Token::Value(path) => {
                        let text: String = value(path).chars().take(VALUE_MAX).collect();
                        name.push_str(&safe(&text));
                    }
                }
            }
            out.push(safe_part(&name));
        }
        out
    }
}

fn first_value(head: &Head, path: &Path) -> String {
    head.text(path)
        .and_then(|values| values.into_iter().next())
        .unwrap_or_default()
}

/// Splits at `/` outside of braces.
fn split_parts(text: &str) -> Result<Vec<&str>, TemplateError> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '{' if inside => return Err(TemplateError::Braces),
            '}' if !inside => return Err(TemplateError::Braces),
            '{' => inside = true,
            '}' => inside = false,
            '/' if !inside => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(TemplateError::Braces);
    }
    parts.push(&text[start..]);
    if parts.iter().any(|part| part.is_empty()) {
        return Err(TemplateError::EmptyPart);
    }
    Ok(parts)
}

fn tokens(part: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = part;
    while let Some(open) = rest.find('{') {
        let close = rest.find('}').ok_or(TemplateError::Braces)?;
        if open > 0 {
            tokens.push(Token::Text(rest[..open].to_owned()));
        }
        tokens.push(Token::Value(Path::parse(rest[open + 1..close].trim())?));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        tokens.push(Token::Text(rest.to_owned()));
    }
    Ok(tokens)
}

fn safe(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// A part that is a name in every file system: not empty, not `.` or `..`, not hidden (our temporary files are).
fn safe_part(name: &str) -> String {
    let mut name: String = name.chars().take(PART_MAX).collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.is_empty() {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::Tag;

    /// A template with one value per part, without the dictionary.
    fn one(text: &str) -> Template {
        let value = Token::Value(Path::tag(Tag(0x0010, 0x0020)));
        Template {
            parts: vec![vec![value.clone()], vec![value, Token::Text(text.to_owned())]],
        }
    }

    #[test]
    fn no_value_leaves_the_folder() {
        let long = "9".repeat(400);
        for hostile in [
            "",
            ".",
            "..",
            "../../etc/passwd",
            "/etc",
            "a/b",
            "a\\b",
            "\0",
            "\n",
            "%2e%2e",
            "é..",
            "...",
            "CON ",
            &long,
        ] {
            let path = one(".dcm").with(|_| hostile.to_owned());
            let parts: Vec<_> = path.components().collect();
            assert_eq!(parts.len(), 2, "{hostile:?} gave {path:?}");
            for part in parts {
                let std::path::Component::Normal(name) = part else {
                    panic!("{hostile:?} gave {part:?}")
                };
                let name = name.to_str().unwrap();
                assert!(
                    !name.starts_with('.') && name.len() <= PART_MAX,
                    "{hostile:?} gave {name:?}"
                );
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            }
        }
    }

    #[test]
    fn a_uid_of_64_characters_stays_whole() {
        let uid = format!("2.25.{}", "1".repeat(59));
        assert_eq!(
            one(".dcm").with(|_| uid.clone()),
            PathBuf::from(&uid).join(format!("{uid}.dcm"))
        );
    }

    #[test]
    fn a_malformed_template_is_refused() {
        for wrong in ["{", "a}b", "{{PatientID}}", "a//b", "/a", ""] {
            assert!(Template::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
