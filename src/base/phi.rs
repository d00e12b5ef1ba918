//! Values that may be patient data. They can be used, never printed by accident.
use std::fmt;

/// A value from a data set or another patient-bearing place. `Debug` and `Display` print `<phi>`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to review: it must not end in a log, metric, URL or error text.
    pub fn expose(&self) -> &T {
        &self.0
    }

    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<phi>")
    }
}

impl<T> fmt::Display for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<phi>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patient_data_is_never_printed() {
        let name = Phi::new("DOE^JANE".to_owned());
        assert_eq!(format!("{name} {name:?} {:?}", Some(&name)), "<phi> <phi> Some(<phi>)");
        assert_eq!(name.expose(), "DOE^JANE");
    }
}
