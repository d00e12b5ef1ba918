//! Transfer syntaxes: what the bytes of a data set look like.
use crate::base::names::Uid;

/// How elements are laid out. Unknown and private syntaxes count as explicit little endian (PS3.5 A.4),
/// except GE's private implicit big-endian pixel syntax 1.2.840.113619.5.2, which is implicit little endian outside the pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Layout {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

/// A transfer syntax with what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Syntax {
    pub uid: Uid,
    pub layout: Layout,
    pub deflated: bool,
}

impl Syntax {
    #[must_use]
    pub fn of(uid: &Uid) -> Self {
        let layout = match uid.as_str() {
            "1.2.840.10008.1.2" | "1.2.840.113619.5.2" => Layout::ImplicitLittle,
            "1.2.840.10008.1.2.2" => Layout::ExplicitBig,
            _ => Layout::ExplicitLittle,
        };
        let deflated = matches!(
            uid.as_str(),
            "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205"
        );
        Self {
            uid: uid.clone(),
            layout,
            deflated,
        }
    }
}
