//! The words without a namespace: what `image`, `to`, `hold` and the text functions promise. Their functions are registered in
//! `api` and `verbs`; here stands what is said of them, with samples that the tests run.
use super::{Gives, Sample, Word};
use crate::rules::HoldKind;

/// A read or write of the image that every sample ends with, so that it has something to show.
pub(super) fn words() -> Vec<Word> {
    let mut all = routing();
    all.extend(elements());
    all.extend(text());
    all
}

fn routing() -> Vec<Word> {
    vec![
        Word {
            namespace: "",
            name: "to",
            parameters: "destination, #{ priority: \"routine\" }",
            does: "Delivers the image to a destination of the configuration. The urgency is `stat`, `high`, `routine` (without the option) or `low`.",
            limits: "In `route` only. A destination that is named twice gets the image once, with the more urgent priority.",
            errors: "An unknown destination or urgency is found when the rules are loaded; one that a rule computes holds the instance.",
            samples: &[Sample {
                given: &[("Modality", "MG")],
                rule: "to(\"vna\");\nif image.Modality == \"MG\" { to(\"cad\", #{ priority: \"stat\" }); }",
                gives: Gives::Deliveries(&[("vna", "routine"), ("cad", "stat")]),
            }],
        },
        Word {
            namespace: "",
            name: "hold",
            parameters: "reason",
            does: "Keeps the image and its deliveries until a person has decided. The first reason that a rule gives is shown.",
            limits: "A reason that a rule computes might carry a patient's data, so file and line are shown in its place.",
            errors: "It ends nothing: the lines after it still run.",
            samples: &[Sample {
                given: &[("BurnedInAnnotation", "YES")],
                rule: "if image.BurnedInAnnotation == \"YES\" { hold(\"burned-in annotation\"); }",
                gives: Gives::Hold(HoldKind::Rule),
            }],
        },
    ]
}

fn elements() -> Vec<Word> {
    vec![
        Word {
            namespace: "",
            name: "has",
            parameters: "image, path",
            does: "Whether the element is there, empty or not. Also written `image.has(path)`.",
            limits: "Elements after the pixels can be asked for only as far as the head reaches.",
            errors: "Holds the instance when the element may lie beyond the part of the data set that rules can read.",
            samples: &[Sample {
                given: &[("PatientComments", "x")],
                rule: "if image.has(\"PatientComments\") { image.PatientComments = (); }",
                gives: Gives::Elements(&[("PatientComments", "")]),
            }],
        },
        Word {
            namespace: "",
            name: "items",
            parameters: "image, path",
            does: "How many items a sequence has; 0 when it is absent. Also written `image.items(path)`.",
            limits: "Items that earlier lines made are counted.",
            errors: "The same as those of `has`.",
            samples: &[Sample {
                given: &[("RequestAttributesSequence[0].AccessionNumber", "7")],
                rule: "for i in 0..image.items(\"RequestAttributesSequence\") {\n    image[`RequestAttributesSequence[${i}].AccessionNumber`] = \"8\";\n}",
                gives: Gives::Elements(&[("RequestAttributesSequence[0].AccessionNumber", "8")]),
            }],
        },
        Word {
            namespace: "",
            name: "values",
            parameters: "image, path",
            does: "All values of the element as an array of texts; empty when it is absent. Also written `image.values(path)`.",
            limits: "Reading `image.Keyword` gives the same values as one text, parted by `\\`.",
            errors: "Holds the instance when the element is a sequence or binary.",
            samples: &[Sample {
                given: &[("ImageType", "ORIGINAL\\PRIMARY")],
                rule: "image.StudyID = image.values(\"ImageType\")[1];",
                gives: Gives::Elements(&[("StudyID", "PRIMARY")]),
            }],
        },
        Word {
            namespace: "",
            name: "set_values",
            parameters: "image, path, array",
            does: "Writes several values. Also written `image.set_values(path, array)`.",
            limits: "Writing what stands there already is no change.",
            errors: "Holds the instance (kind `edit`) when a value is too long for its VR or cannot be written in the character set; nothing is cut.",
            samples: &[Sample {
                given: &[("ImageType", "ORIGINAL\\PRIMARY")],
                rule: "image.set_values(\"ImageType\", [\"DERIVED\", \"SECONDARY\"]);",
                gives: Gives::Elements(&[("ImageType", "DERIVED\\SECONDARY")]),
            }],
        },
        Word {
            namespace: "",
            name: "remove",
            parameters: "image, path",
            does: "Removes the element, or a whole sequence. Also written `image.remove(path)` or `image.Keyword = ()`.",
            limits: "What is not there stays not there.",
            errors: "Holds the instance when the element lies beyond the part of the data set that rules can change.",
            samples: &[Sample {
                given: &[("PatientComments", "x"), ("PatientID", "1")],
                rule: "image.remove(\"PatientComments\");",
                gives: Gives::Elements(&[("PatientComments", "")]),
            }],
        },
    ]
}

fn text() -> Vec<Word> {
    vec![
        Word {
            namespace: "",
            name: "matches",
            parameters: "text, pattern",
            does: "Whether a regular expression matches somewhere in the text.",
            limits: "Linear time, whatever the pattern; a pattern has at most 512 bytes. Anchor it with `^` and `$` to mean the whole text.",
            errors: "A literal pattern that is not valid is found when the rules are loaded; a computed one holds the instance.",
            samples: &[Sample {
                given: &[("AccessionNumber", "123")],
                rule: "if matches(image.AccessionNumber, \"^[0-9]+$\") { image.AccessionNumber = \"RA123\"; }",
                gives: Gives::Elements(&[("AccessionNumber", "RA123")]),
            }],
        },
        Word {
            namespace: "",
            name: "replace_regex",
            parameters: "text, pattern, by",
            does: "The text with all matches replaced; `$1` is the first group.",
            limits: "As `matches`; the replacement has at most 256 bytes.",
            errors: "As with `matches`; a result over the limit for texts holds the instance (kind `budget`).",
            samples: &[Sample {
                given: &[("AccessionNumber", "RA-77")],
                rule: "image.AccessionNumber = replace_regex(image.AccessionNumber, \"^RA-\", \"\");",
                gives: Gives::Elements(&[("AccessionNumber", "77")]),
            }],
        },
        Word {
            namespace: "",
            name: "pad_left",
            parameters: "text, length, fill",
            does: "The text filled on the left up to the length.",
            limits: "It never cuts, and fills with exactly one character up to 1024.",
            errors: "Holds the instance when `fill` is not one character.",
            samples: &[Sample {
                given: &[("AccessionNumber", "77")],
                rule: "image.AccessionNumber = pad_left(image.AccessionNumber, 8, \"0\");",
                gives: Gives::Elements(&[("AccessionNumber", "00000077")]),
            }],
        },
    ]
}
