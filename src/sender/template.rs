//! Names of files in a destination folder, from a template. What comes out is always safe: parts of `[A-Za-z0-9._-]`,
//! never empty, never beginning with a dot, never longer than `PART_MAX`; no value from a data set can leave the folder. A part that
//! is too long is cut, and carries a hash of the whole: what told it from others still does, and its extension stays.
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use dicom_core::Tag;
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

/// The longest part of a name: under the 255 bytes of every file system, with room for `_1000` and a temporary suffix.
const PART_MAX: usize = 160;
/// Folders and file name.
const PARTS_MAX: usize = 16;
/// Hexadecimal digits of the hash in a part that was cut: 64 bits.
const DIGITS: usize = 16;
/// The longest extension, with its dot, that is kept as one.
const EXTENSION_MAX: usize = 9;
/// Attributes that differ from one instance of a series to the next, or mostly do.
const BY_INSTANCE: [Tag; 6] = [
    // Instance Creation Time, SOP Instance UID, Acquisition DateTime, Acquisition Time, Content Time, Instance Number.
    Tag(0x0008, 0x0013),
    Tag(0x0008, 0x0018),
    Tag(0x0008, 0x002A),
    Tag(0x0008, 0x0032),
    Tag(0x0008, 0x0033),
    Tag(0x0020, 0x0013),
];

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

    /// Whether instances of one series get names of their own, as far as the dictionary can say: by one of its attributes that
    /// differs by instance, or by one of a private group or an item, of which nothing is known.
    #[must_use]
    pub fn tells_instances_apart(&self) -> bool {
        let differs = |path: &Path| match &path.leaf {
            Selector::Tag(tag) => !path.items.is_empty() || tag.0 % 2 == 1 || BY_INSTANCE.contains(tag),
            Selector::Private { .. } => true,
        };
        let values = self.parts.iter().flatten().filter_map(|token| match token {
            Token::Text(_) => None,
            Token::Value(path) => Some(path),
        });
        values.into_iter().any(differs)
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
                    Token::Value(path) => name.push_str(&safe(&value(path))),
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
    let mut name = shortened(name);
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.is_empty() {
        name.push('_');
    }
    name
}

/// ASCII of at most `PART_MAX`: the beginning, `_` and a hash of the whole, and the extension.
fn shortened(name: &str) -> String {
    if name.len() <= PART_MAX {
        return name.to_owned();
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = if extension.len() <= EXTENSION_MAX {
        extension
    } else {
        ""
    };
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let begins = &name[..PART_MAX - 1 - DIGITS - extension.len()];
    format!("{begins}_{}{extension}", &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_cut_keeps_its_extension_and_what_tells_it_apart() {
        let template =
            Template::parse("{PatientID}_{StudyInstanceUID}_{SeriesInstanceUID}_{SOPInstanceUID}.dcm").unwrap();
        let name = |last: &str| {
            let uid = format!("2.25.{}{last}", "1".repeat(58));
            let path = template.with(|_| uid.clone());
            path.to_str().unwrap().to_owned()
        };
        let (first, other) = (name("1"), name("2"));
        assert_ne!(first, other);
        assert_eq!(first, name("1"));
        for name in [first, other] {
            assert_eq!(name.len(), PART_MAX);
            assert!(name.starts_with("2.25.1") && name.ends_with(".dcm"), "{name}");
        }
        // Two values that differ only far behind, and a point that begins no extension.
        let long = |last: &str| one("").with(|_| format!("a.{}{last}", "b".repeat(300)));
        assert_ne!(long("1"), long("2"));
    }

    #[test]
    fn a_template_that_gives_all_images_of_a_series_one_name_is_told_from_others() {
        for (text, apart) in [
            ("{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm", true),
            ("{PatientID}/{SeriesNumber}-{InstanceNumber}.dcm", true),
            ("{SOPInstanceUID}/image.dcm", true),
            ("{StudyInstanceUID}/{Modality}.dcm", false),
            ("image.dcm", false),
        ] {
            assert_eq!(Template::parse(text).unwrap().tells_instances_apart(), apart, "{text}");
        }
    }

    #[test]
    fn a_malformed_template_is_refused() {
        for wrong in ["{", "a}b", "{{PatientID}}", "a//b", "/a", ""] {
            assert!(Template::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
