//! Building plans: text into values, and the effect of a plan before it is applied.
use super::tree::padded;
use super::{Edit, EditError, Plan};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use crate::dicom::syntax::Layout;
use crate::dicom::text::value::{binary, form, is_affected, looks_like_text, strings, unit};
use crate::dicom::text::{Charset, Form};
use dicom_core::VR;

impl Edit {
    /// Sets an element to text or numbers: by the VR of the existing element, else of the dictionary, else LO;
    /// in the character set in scope at `path`. Text equal to what stands there keeps its bytes.
    ///
    /// # Errors
    /// `NotAValue`, `NotText`, `NotANumber`, `TooLong` (by the VR's limit in characters), `Unencodable`.
    pub fn text(head: &Head, path: Path, values: &[String]) -> Result<Self, EditError> {
        let charset = head.charset(&path);
        let vr = vr_at(head, &path)?;
        if let Some(node) = head.find(&path) {
            let found = head.decoded_in(node, &charset);
            let is_text = form(vr).is_some();
            if is_text && found.is_some_and(|found| !found.lossy && found.values == values) {
                let value = head.raw(node).to_vec();
                return Ok(Self::Set { path, vr, value });
            }
        }
        let value = value(vr, values, &charset)?;
        Ok(Self::Set { path, vr, value })
    }

    /// As `text`, but written anew even where the same text stands: without the blanks around it.
    ///
    /// # Errors
    /// As `text`.
    pub fn text_anew(head: &Head, path: Path, values: &[String]) -> Result<Self, EditError> {
        let vr = vr_at(head, &path)?;
        let value = value(vr, values, &head.charset(&path))?;
        Ok(Self::Set { path, vr, value })
    }
}

impl Edit {
    /// Sets an element to plain ASCII text, numbers (of which what is none counts as zero) or bytes of zero, whatever stands
    /// there; a sequence to no items. For values that this crate makes.
    #[must_use]
    pub fn plain(path: Path, vr: VR, values: &[String]) -> Self {
        let bytes = if vr == VR::SQ || values.is_empty() {
            Vec::new()
        } else if form(vr).is_some() {
            values.join("\\").into_bytes()
        } else {
            let zero = || vec![0; unit(vr).max(2)];
            let numbers = values.iter().map(|text| binary(vr, text).unwrap_or_else(zero));
            numbers.collect::<Vec<_>>().concat()
        };
        let value = padded(bytes, vr);
        Self::Set { path, vr, value }
    }
}

impl Plan {
    /// As `Edit::text`, in the character set that is in scope with this plan's edits so far, added to the plan.
    ///
    /// # Errors
    /// As `Edit::text`.
    pub fn set_text(&mut self, head: &Head, path: Path, values: &[String]) -> Result<(), EditError> {
        let edit = self.text_edit(head, path, values)?;
        self.edits.push(edit);
        Ok(())
    }

    /// As `Edit::text`, in the character set that is in scope with this plan's edits.
    ///
    /// # Errors
    /// As `Edit::text`.
    pub fn text_edit(&self, head: &Head, path: Path, values: &[String]) -> Result<Edit, EditError> {
        let charset = self.charset(head, &path);
        if charset == head.charset(&path) {
            return Edit::text(head, path, values);
        }
        let vr = vr_at(head, &path)?;
        let value = value(vr, values, &charset)?;
        Ok(Edit::Set { path, vr, value })
    }

    /// The text at `path` as it will be: what the last edit of it says, else the head's.
    #[must_use]
    pub fn text(&self, head: &Head, path: &Path) -> Option<Vec<String>> {
        match self.last(head, path) {
            Some(Edit::Set { vr, value, .. }) => {
                let vr = if *vr == VR::UN && looks_like_text(value) {
                    VR::LO
                } else {
                    *vr
                };
                let decoded = strings(vr, value, Layout::ExplicitLittle, &self.charset(head, path))?;
                Some(decoded.values)
            }
            Some(Edit::Remove { .. }) => None,
            None => head.text(path),
        }
    }

    /// The character set in scope at `path`, edits of Specific Character Set included.
    #[must_use]
    pub fn charset(&self, head: &Head, path: &Path) -> Charset {
        for depth in (0..=path.items.len()).rev() {
            let own = Path {
                items: path.items[..depth].to_vec(),
                leaf: Selector::Tag(SPECIFIC_CHARACTER_SET),
            };
            match self.last(head, &own) {
                Some(Edit::Set { value, .. }) => return Charset::of_bytes(value),
                Some(Edit::Remove { .. }) => {}
                None => {
                    if let Some(terms) = head.text(&own) {
                        return Charset::of(&terms);
                    }
                }
            }
        }
        Charset::default()
    }

    /// The last edit that decides on `path`: of the element itself, or the removal of a sequence around it.
    fn last(&self, head: &Head, path: &Path) -> Option<&Edit> {
        let wanted = steps(head, path);
        self.edits.iter().rev().find(|edit| {
            let found = steps(head, edit.path());
            let is_around = |found: &[(Selector, Option<usize>)]| {
                // The last step of an edit's path names the whole sequence, whatever the item.
                let (last, before) = (found.len() - 1, &found[..found.len() - 1]);
                wanted.len() > last && before == &wanted[..last] && found[last].0 == wanted[last].0
            };
            found == wanted || (matches!(edit, Edit::Remove { .. }) && is_around(&found))
        })
    }
}

/// A path with private selectors as tags where the head has their blocks, so that two ways to name an element compare equal.
fn steps(head: &Head, path: &Path) -> Vec<(Selector, Option<usize>)> {
    let mut steps = Vec::with_capacity(path.items.len() + 1);
    for depth in 0..=path.items.len() {
        let (selector, index) = match path.items.get(depth) {
            Some((selector, index)) => (selector, Some(*index)),
            None => (&path.leaf, None),
        };
        let item = head.item(&path.items[..depth]);
        let tag = item.and_then(|item| head.resolve(item, selector));
        steps.push((tag.map_or_else(|| selector.clone(), Selector::Tag), index));
    }
    steps
}

/// The VR to write at `path`.
fn vr_at(head: &Head, path: &Path) -> Result<VR, EditError> {
    let vr = match (head.find(path), &path.leaf) {
        (Some(node), _) => {
            let found = &head.nodes[node];
            if found.kind != Kind::Value {
                return Err(EditError::NotAValue);
            }
            head.reading_vr(found)
        }
        (None, Selector::Tag(tag)) => head.vr_of_new(path, *tag),
        (None, Selector::Private { .. }) => VR::LO,
    };
    match vr {
        VR::UN => Ok(VR::LO),
        VR::SQ => Err(EditError::NotAValue),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW => Err(EditError::NotText),
        vr => Ok(vr),
    }
}

/// The bytes of text or numbers for a VR, little endian, padded.
fn value(vr: VR, values: &[String], charset: &Charset) -> Result<Vec<u8>, EditError> {
    let Some(form) = form(vr) else {
        let numbers = values.iter().filter(|text| !text.trim().is_empty());
        let bytes: Option<Vec<Vec<u8>>> = numbers.map(|text| binary(vr, text)).collect();
        return Ok(bytes.ok_or(EditError::NotANumber)?.concat());
    };
    let joined = values.join("\\");
    match form {
        Form::Text => check(vr, &joined)?,
        Form::Values | Form::Names => joined.split('\\').try_for_each(|value| check(vr, value))?,
    }
    let default = Charset::default();
    let charset = if is_affected(vr) { charset } else { &default };
    let bytes = charset.encode(&joined, form).map_err(|_| EditError::Unencodable)?;
    Ok(padded(bytes, vr))
}

/// Whether one value keeps to its VR (PS3.5 table 6.2-1).
fn check(vr: VR, value: &str) -> Result<(), EditError> {
    let max = match vr {
        VR::AS => 4,
        VR::DA => 8,
        VR::IS => 12,
        VR::AE | VR::CS | VR::DS | VR::SH => 16,
        VR::TM => 16,
        VR::DT => 26,
        VR::LO | VR::UI => 64,
        VR::ST => 1024,
        VR::LT => 10_240,
        _ => usize::MAX,
    };
    let trimmed = value.trim();
    let is_wrong = match vr {
        VR::IS => trimmed.parse::<i64>().is_err() && !trimmed.is_empty(),
        VR::DS => trimmed.parse::<f64>().is_err() && !trimmed.is_empty(),
        _ => false,
    };
    if is_wrong {
        return Err(EditError::NotANumber);
    }
    let is_uid = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if vr == VR::UI && !is_uid(trimmed) {
        return Err(EditError::NotAUid);
    }
    let groups = value.split('=');
    let is_long_name =
        vr == VR::PN && (groups.clone().count() > 3 || groups.clone().any(|group| group.chars().count() > 64));
    if value.chars().count() > max || is_long_name {
        return Err(EditError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::head::tests::{BIG, EXPLICIT, IMPLICIT, element, syntax};
    use crate::dicom::syntax::Layout;

    const LAYOUTS: [(&str, Layout); 3] = [
        (IMPLICIT, Layout::ImplicitLittle),
        (EXPLICIT, Layout::ExplicitLittle),
        (BIG, Layout::ExplicitBig),
    ];

    /// PS3.5 A.1: what the dictionary calls "US or SS" is as Pixel Representation says.
    #[test]
    fn a_number_that_is_added_is_signed_as_the_pixels_are() {
        let path = || Path::parse("PixelPaddingValue").unwrap();
        for (name, layout) in LAYOUTS {
            for (signed, vr) in [(0, VR::US), (1, VR::SS)] {
                let bytes = element(layout, 0x0028_0103, "US", &layout.put_u16(signed));
                let head = Head::scan(syntax(name), &bytes).unwrap();
                let added = |text: &str| Edit::text(&head, path(), &[text.to_owned()]);
                let set = |number: i16| {
                    let value = number.to_le_bytes().to_vec();
                    Ok(Edit::Set {
                        path: path(),
                        vr,
                        value,
                    })
                };
                assert_eq!(added("2000"), set(2000), "{name}");
                let below = if signed == 1 {
                    set(-2000)
                } else {
                    Err(EditError::NotANumber)
                };
                assert_eq!(added("-2000"), below, "{name}");
            }
        }
    }
}
