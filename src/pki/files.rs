//! One PEM file or several: the old and the new authority side by side.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// Written `"ca.pem"` or `["old-ca.pem", "new-ca.pem"]`. Each file may hold several certificates or lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files(pub Vec<PathBuf>);

impl Files {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }
}

impl From<PathBuf> for Files {
    fn from(path: PathBuf) -> Self {
        Self(vec![path])
    }
}

impl Serialize for Files {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a file, or a list of files in brackets")]
        enum Written {
            One(PathBuf),
            Many(Vec<PathBuf>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::One(path) => Self(vec![path]),
            Written::Many(paths) => Self(paths),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Table {
        ca: Files,
    }

    #[test]
    fn one_file_or_a_list_is_read_and_written_as_it_came() {
        for text in ["ca = \"a.pem\"\n", "ca = [\"a.pem\", \"b.pem\"]\n"] {
            let table: Table = toml::from_str(text).unwrap();
            assert_eq!(toml::to_string(&table).unwrap(), text);
        }
        let wrong = toml::from_str::<Table>("ca = 3").err().unwrap().to_string();
        assert!(wrong.contains("a list of files"), "{wrong}");
    }
}
