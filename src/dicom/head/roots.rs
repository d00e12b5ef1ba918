//! The elements of the root by their tag. A rule reads dozens of attributes of a head that has hundreds: each is found in the
//! logarithm of their number, as long as the data set is ordered as PS3.5 7.1 demands; a data set that is not is walked.
use super::Node;
use dicom_core::Tag;

/// The places of the root's nodes when their tags ascend (equal ones may follow each other), otherwise nothing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Roots(Option<Box<[u32]>>);

impl Roots {
    /// Of the nodes of a whole head.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut roots = Vec::with_capacity(nodes.iter().filter(|node| node.depth == 0).count());
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            roots.push(at as u32);
            at = node.next as usize;
        }
        let ascend = roots.is_sorted_by_key(|root| nodes[*root as usize].tag);
        Self(ascend.then(|| roots.into_boxed_slice()))
    }

    /// Whether a search by tag may stop at the first one that is higher.
    pub(super) fn ascend(&self) -> bool {
        self.0.is_some()
    }

    /// How many there are, where a walk need not tell.
    pub(super) fn count(&self) -> Option<usize> {
        self.0.as_deref().map(<[u32]>::len)
    }

    /// The first node of `tag` or a higher one, `nodes.len()` when all are lower; `None` when only a walk can tell.
    pub(super) fn first_from(&self, nodes: &[Node], tag: Tag) -> Option<usize> {
        let roots = self.0.as_deref()?;
        let place = roots.partition_point(|root| nodes[*root as usize].tag < tag);
        Some(roots.get(place).map_or(nodes.len(), |root| *root as usize))
    }
}

#[cfg(test)]
mod tests {
    use crate::dicom::head::Head;
    use crate::dicom::head::tests::{EXPLICIT, element, sequence, syntax};
    use crate::dicom::path::Path;
    use crate::dicom::syntax::Layout::ExplicitLittle as EL;

    /// The search by tag and a walk over all elements must tell the same, whatever the order.
    #[test]
    fn elements_are_found_in_ordered_and_disordered_data_sets() {
        let creator = element(EL, 0x0009_0010, "LO", b"ACME");
        let private = element(EL, 0x0009_1001, "LO", b"mine");
        let item = element(EL, 0x0008_0100, "SH", b"code");
        let ordered = [
            element(EL, 0x0008_0050, "SH", b"first "),
            element(EL, 0x0008_0050, "SH", b"second"),
            sequence(EL, 0x0008_1110, "SQ", &[item], true),
            creator,
            private,
            element(EL, 0x0010_0020, "LO", b"number"),
        ];
        let orders: [&[usize]; 4] = [
            &[0, 1, 2, 3, 4, 5],
            &[5, 0, 1, 2, 3, 4],
            &[3, 4, 0, 1, 2, 5],
            &[2, 5, 0, 3, 4, 1],
        ];
        for order in orders {
            let bytes: Vec<u8> = order.iter().flat_map(|at| ordered[*at].clone()).collect();
            let head = Head::scan(syntax(EXPLICIT), &bytes).unwrap();
            let text = |path| head.text(&Path::parse(path).unwrap());
            assert_eq!(text("AccessionNumber"), Some(vec!["first".into()]), "{order:?}");
            assert!(head.is_repeated(&Path::parse("AccessionNumber").unwrap()), "{order:?}");
            assert!(!head.is_repeated(&Path::parse("PatientID").unwrap()), "{order:?}");
            assert_eq!(text("PatientID"), Some(vec!["number".into()]), "{order:?}");
            assert_eq!(text("(0009,\"ACME\",01)"), Some(vec!["mine".into()]), "{order:?}");
            assert_eq!(text("(0009,\"OTHER\",01)"), None, "{order:?}");
            assert_eq!(
                text("ReferencedStudySequence[0].CodeValue"),
                Some(vec!["code".into()]),
                "{order:?}"
            );
            for absent in [
                "SpecificCharacterSet",
                "StudyDescription",
                "PatientName",
                "WindowCenter",
            ] {
                assert_eq!(text(absent), None, "{absent} {order:?}");
            }
        }
    }
}
