//! Transfer syntaxes as forms that one instance can take: which can become which without loss, and in what order they are
//! wanted. Pure; knows nothing of peers or processes.
use crate::base::names::Uid;
use crate::dicom::family;
use serde::{Deserialize, Serialize};

/// How the pixels of a transfer syntax are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// Uncompressed in one of the three layouts; or the whole data set deflated.
    Native,
    /// Encapsulated, but not compressed (PS3.5 A.4.11).
    Stored,
    Rle,
    /// JPEG, process 14 (lossless) or a lossy one; the stream says which.
    Jpeg,
    JpegLs,
    Jpeg2000,
    JpegXl,
}

/// One transfer syntax of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    pub uid: &'static str,
    pub name: &'static str,
    pub coding: Coding,
    /// This box can write it.
    pub writes: bool,
    /// Its pixels may have lost something already: it is never written again as if it were the original.
    pub lossy: bool,
}

/// `compress` of a destination: what images are compressed with on their way, without loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Compress {
    #[serde(rename = "jpeg-ls")]
    JpegLs,
    #[serde(rename = "jpeg-2000")]
    Jpeg2000,
    #[serde(rename = "jpeg-xl")]
    JpegXl,
    #[serde(rename = "rle")]
    Rle,
    #[serde(rename = "deflated")]
    Deflated,
}

/// What a site allows and asks for on the way to one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// False: only what is stored is proposed.
    pub convert: bool,
    pub compress: Option<Compress>,
    /// Pixels that were compressed with loss may be sent uncompressed.
    pub decompress_lossy: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            convert: true,
            compress: None,
            decompress_lossy: false,
        }
    }
}

/// Every syntax that can be converted from or to, the wanted ones first.
pub const FORMS: [Form; 20] = [
    native("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
    native("1.2.840.10008.1.2", "Implicit VR Little Endian"),
    native("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
    native("1.2.840.10008.1.2.2", "Explicit VR Big Endian"),
    form(
        "1.2.840.10008.1.2.4.80",
        "JPEG-LS Lossless",
        Coding::JpegLs,
        true,
        false,
    ),
    form(
        "1.2.840.10008.1.2.4.90",
        "JPEG 2000 Lossless",
        Coding::Jpeg2000,
        true,
        false,
    ),
    form("1.2.840.10008.1.2.5", "RLE Lossless", Coding::Rle, true, false),
    form(
        "1.2.840.10008.1.2.4.110",
        "JPEG XL Lossless",
        Coding::JpegXl,
        true,
        false,
    ),
    form(
        "1.2.840.10008.1.2.4.70",
        "JPEG Lossless SV1",
        Coding::Jpeg,
        false,
        false,
    ),
    form("1.2.840.10008.1.2.4.57", "JPEG Lossless", Coding::Jpeg, false, false),
    form(
        "1.2.840.10008.1.2.4.201",
        "HTJ2K Lossless",
        Coding::Jpeg2000,
        false,
        false,
    ),
    form(
        "1.2.840.10008.1.2.4.202",
        "HTJ2K Lossless RPCL",
        Coding::Jpeg2000,
        false,
        false,
    ),
    form(
        "1.2.840.10008.1.2.1.98",
        "Encapsulated Uncompressed",
        Coding::Stored,
        false,
        false,
    ),
    form("1.2.840.10008.1.2.4.50", "JPEG Baseline", Coding::Jpeg, false, true),
    form("1.2.840.10008.1.2.4.51", "JPEG Extended", Coding::Jpeg, false, true),
    form(
        "1.2.840.10008.1.2.4.81",
        "JPEG-LS Near-lossless",
        Coding::JpegLs,
        false,
        true,
    ),
    form("1.2.840.10008.1.2.4.91", "JPEG 2000", Coding::Jpeg2000, false, true),
    form("1.2.840.10008.1.2.4.203", "HTJ2K", Coding::Jpeg2000, false, true),
    form(
        "1.2.840.10008.1.2.4.111",
        "JPEG XL JPEG Recompression",
        Coding::JpegXl,
        false,
        true,
    ),
    form("1.2.840.10008.1.2.4.112", "JPEG XL", Coding::JpegXl, false, true),
];

const fn native(uid: &'static str, name: &'static str) -> Form {
    form(uid, name, Coding::Native, true, false)
}

const fn form(uid: &'static str, name: &'static str, coding: Coding, writes: bool, lossy: bool) -> Form {
    Form {
        uid,
        name,
        coding,
        writes,
        lossy,
    }
}

/// The layout that conversions between codings pass through.
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";

impl Compress {
    #[must_use]
    pub fn uid(self) -> &'static str {
        match self {
            Self::JpegLs => "1.2.840.10008.1.2.4.80",
            Self::Jpeg2000 => "1.2.840.10008.1.2.4.90",
            Self::JpegXl => "1.2.840.10008.1.2.4.110",
            Self::Rle => "1.2.840.10008.1.2.5",
            Self::Deflated => "1.2.840.10008.1.2.1.99",
        }
    }
}

/// The form of a syntax; `None` for one that is passed on as it is only (video, private ones).
#[must_use]
pub fn form_of(uid: &Uid) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.uid == uid.as_str())
}

/// The syntax in words, or its UID.
#[must_use]
pub fn name_of(uid: &Uid) -> String {
    form_of(uid).map_or_else(|| uid.to_string(), |form| form.name.to_owned())
}

/// The syntaxes in which an instance of this class, stored in this syntax, may leave; the most wanted first. What is stored
/// is always one of them.
#[must_use]
pub fn ways(class: &Uid, stored: &Uid, policy: Policy) -> Vec<Uid> {
    let mut ways = vec![stored.clone()];
    let Some(from) = form_of(stored).filter(|_| policy.convert) else {
        return ways;
    };
    let is_image = may_have_pixels(class);
    for to in FORMS.iter().filter(|to| to.writes && to.uid != from.uid) {
        // Without pixels nothing was lost, whatever the syntax may do to an image.
        let reaches = match (from.lossy && is_image, to.coding) {
            // Once lossy, it may only be unpacked, and only where the site says so. Deflate would pack it again.
            (true, Coding::Native) => policy.decompress_lossy && to.uid != Compress::Deflated.uid(),
            (true, _) => false,
            (false, Coding::Native) => true,
            (false, _) => is_image,
        };
        if reaches {
            ways.push(Uid::known(to.uid));
        }
    }
    let asked = policy.compress.map(Compress::uid);
    // Already compressed without loss: another codec gains little, and nothing is more exact than what is stored.
    if let Some(asked) = asked
        && from.coding == Coding::Native
        && let Some(at) = ways.iter().position(|uid| uid.as_str() == asked)
    {
        let wanted = ways.remove(at);
        ways.insert(0, wanted);
    }
    ways
}

/// Whether a conversion between two syntaxes needs a codec; else it is made of layout and deflate alone.
#[must_use]
pub fn needs_codec(from: &Uid, to: &Uid) -> bool {
    let coding = |uid| form_of(uid).map(|form| form.coding);
    from != to && (coding(from) != Some(Coding::Native) || coding(to) != Some(Coding::Native))
}

/// Whether instances of a class can have pixels at all: nothing else gains by an image codec.
fn may_have_pixels(class: &Uid) -> bool {
    let never = ["SR", "KO", "PR", "DOC", "WAVEFORM", "REG"];
    if never.iter().any(|name| family::is(class, name) == Some(true)) {
        return false;
    }
    // Of radiotherapy, only images and doses.
    family::is(class, "RT") != Some(true) || matches!(class.as_str(), RT_IMAGE | RT_DOSE)
}

const RT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.481.1";
const RT_DOSE: &str = "1.2.840.10008.5.1.4.1.1.481.2";

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";

    fn of(class: &'static str, stored: &'static str, policy: Policy) -> Vec<String> {
        let ways = ways(&Uid::known(class), &Uid::known(stored), policy);
        ways.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_stored_comes_first_and_alone_where_nothing_else_is_allowed() {
        let none = Policy {
            convert: false,
            ..Policy::default()
        };
        assert_eq!(of(CT, "1.2.840.10008.1.2.1", none), ["1.2.840.10008.1.2.1"]);
        assert_eq!(of(CT, "1.2.3.4", Policy::default()), ["1.2.3.4"]);
        let ways = of(CT, "1.2.840.10008.1.2.4.70", Policy::default());
        assert_eq!(
            ways[..3],
            ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
        );
        assert_eq!(ways.len(), 9);
    }

    #[test]
    fn lossy_pixels_are_unpacked_only_where_the_site_says_so_and_never_packed_again() {
        let baseline = "1.2.840.10008.1.2.4.50";
        assert_eq!(of(CT, baseline, Policy::default()), [baseline]);
        let allowed = Policy {
            decompress_lossy: true,
            compress: Some(Compress::JpegLs),
            ..Policy::default()
        };
        let expected = [
            baseline,
            "1.2.840.10008.1.2.1",
            "1.2.840.10008.1.2",
            "1.2.840.10008.1.2.2",
        ];
        assert_eq!(of(CT, baseline, allowed), expected);
    }

    #[test]
    fn a_report_is_never_proposed_as_an_image() {
        let policy = Policy {
            compress: Some(Compress::JpegLs),
            ..Policy::default()
        };
        let ways = of(SR, "1.2.840.10008.1.2.1", policy);
        assert_eq!(ways[0], "1.2.840.10008.1.2.1");
        assert!(
            ways.iter()
                .all(|uid| !uid.contains(".1.2.4.") && uid != "1.2.840.10008.1.2.5"),
            "{ways:?}"
        );
    }

    /// Stored in a syntax of images all the same, it can become plain, and nothing else of images.
    #[test]
    fn what_has_no_pixels_goes_from_no_image_codec_to_another() {
        for class in [SR, "1.2.840.10008.5.1.4.1.1.104.1"] {
            for stored in ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"] {
                let ways = of(class, stored, Policy::default());
                let plain = [
                    stored,
                    "1.2.840.10008.1.2.1",
                    "1.2.840.10008.1.2",
                    "1.2.840.10008.1.2.1.99",
                    "1.2.840.10008.1.2.2",
                ];
                assert_eq!(ways, plain, "{class}");
            }
        }
    }

    #[test]
    fn what_the_site_asks_for_comes_before_what_is_stored() {
        for (compress, uid) in [
            (Compress::JpegLs, "1.2.840.10008.1.2.4.80"),
            (Compress::Deflated, "1.2.840.10008.1.2.1.99"),
        ] {
            let policy = Policy {
                compress: Some(compress),
                ..Policy::default()
            };
            let ways = of(CT, "1.2.840.10008.1.2", policy);
            assert_eq!(ways[..2], [uid, "1.2.840.10008.1.2"]);
            assert_eq!(of(CT, "1.2.840.10008.1.2.4.90", policy)[0], "1.2.840.10008.1.2.4.90");
        }
    }
}
