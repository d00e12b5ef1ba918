//! What the head says of the pixels, checked once: inner code takes an `Image` and never checks again.
use super::forms::Coding;
use crate::dicom::head::Head;
use dicom_core::Tag;

/// The Image Pixel module (PS3.3 C.7.6.3), as far as a codec needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    pub rows: u16,
    pub columns: u16,
    /// 1 or 3.
    pub samples: u16,
    /// 8, 16 or 32.
    pub allocated: u16,
    pub stored: u16,
    pub signed: bool,
    /// Colour by plane in uncompressed pixels.
    pub planar: bool,
    pub frames: u32,
    pub photometric: String,
}

/// Why an instance's pixels are left as they are. Constant words and numbers of the Image Pixel module, never a patient's data.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Declined(pub String);

impl Declined {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Image {
    /// Reads the module.
    ///
    /// # Errors
    /// What is missing, or not one of the shapes that are handled.
    pub fn of(head: &Head) -> Result<Self, Declined> {
        let number = |tag: Tag, name: &str| {
            let text = head.first(tag);
            text.parse::<u32>()
                .map_err(|_| Declined(format!("{name} is missing or no number")))
        };
        let or = |tag: Tag, otherwise: u32| number(tag, "").unwrap_or(otherwise);
        let short = |value: u32, name: &str| u16::try_from(value).map_err(|_| Declined(format!("{name} is too large")));
        let image = Self {
            rows: short(number(ROWS, "Rows")?, "Rows")?,
            columns: short(number(COLUMNS, "Columns")?, "Columns")?,
            samples: short(or(SAMPLES, 1), "Samples per Pixel")?,
            allocated: short(number(ALLOCATED, "Bits Allocated")?, "Bits Allocated")?,
            stored: short(number(STORED, "Bits Stored")?, "Bits Stored")?,
            signed: or(REPRESENTATION, 0) == 1,
            planar: or(PLANAR, 0) == 1,
            frames: or(FRAMES, 1),
            photometric: head.first(PHOTOMETRIC),
        };
        image.check()?;
        Ok(image)
    }

    fn check(&self) -> Result<(), Declined> {
        let declined = |what: String| Err(Declined(what));
        if self.rows == 0 || self.columns == 0 || self.frames == 0 {
            return declined("the image has no rows, columns or frames".to_owned());
        }
        if !matches!(self.allocated, 8 | 16 | 32) {
            return declined(format!("Bits Allocated {} is not handled", self.allocated));
        }
        if self.stored == 0 || self.stored > self.allocated {
            return declined("Bits Stored is not within Bits Allocated".to_owned());
        }
        if !matches!(self.samples, 1 | 3) {
            return declined(format!("Samples per Pixel {} is not handled", self.samples));
        }
        if u64::from(self.frames) * self.frame_bytes() > u64::from(u32::MAX) - 2 {
            return declined("the pixels are larger than 4 GiB".to_owned());
        }
        if self.frame_bytes() > FRAME_MAX {
            return declined("a frame is larger than 1 GiB".to_owned());
        }
        Ok(())
    }

    /// Whether uncompressed pixels of this kind can be taken apart into frames.
    ///
    /// # Errors
    /// Colour that is subsampled: its frames have another length.
    pub fn check_native(&self) -> Result<(), Declined> {
        let known = ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"];
        match known.contains(&self.photometric.as_str()) {
            true => Ok(()),
            false => Err(Declined(
                "this Photometric Interpretation is not handled uncompressed".to_owned(),
            )),
        }
    }

    /// Whether a coding can carry these pixels without loss.
    ///
    /// # Errors
    /// Why not.
    pub fn check_writable(&self, coding: Coding) -> Result<(), Declined> {
        let wide = self.allocated > 16;
        match coding {
            Coding::JpegLs | Coding::Jpeg2000 | Coding::JpegXl if wide => Err(Declined(format!(
                "Bits Allocated {} is more than the codec takes",
                self.allocated
            ))),
            // PS3.5 8.2.15: the samples of a JPEG XL stream have no sign.
            Coding::JpegXl if self.signed => Err(Declined("signed pixels are not written as JPEG XL".to_owned())),
            // The encoder has no size for them.
            Coding::JpegXl if self.rows == 1 || self.columns == 1 => Err(Declined(
                "an image of one row or one column is not written as JPEG XL".to_owned(),
            )),
            Coding::JpegXl if self.samples == 3 && self.photometric != "RGB" => {
                Err(Declined("colour other than RGB is not written as JPEG XL".to_owned()))
            }
            _ => Ok(()),
        }
    }

    #[must_use]
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of one sample.
    #[must_use]
    pub fn sample_bytes(&self) -> usize {
        usize::from(self.allocated / 8)
    }

    /// Bytes of one uncompressed frame, at most `FRAME_MAX`.
    #[must_use]
    pub fn frame_length(&self) -> usize {
        self.pixels() * usize::from(self.samples) * self.sample_bytes()
    }

    fn frame_bytes(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.columns) * u64::from(self.samples) * u64::from(self.allocated / 8)
    }

    /// The samples of a frame in little endian, colour by pixel, each widened to 32 bits without its sign.
    pub fn numbers<'a>(&self, frame: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let size = self.sample_bytes();
        frame
            .chunks_exact(size)
            .map(|sample| sample.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// The least bits that hold every sample of a frame: Bits Stored where nothing stands above them, else Bits Allocated.
    #[must_use]
    pub fn precision(&self, frame: &[u8]) -> u16 {
        let all = u32::MAX >> (32 - u32::from(self.stored));
        match self.numbers(frame).all(|number| number <= all) {
            true => self.stored,
            false => self.allocated,
        }
    }

    /// Colour by plane to colour by pixel.
    #[must_use]
    pub fn by_pixel(&self, frame: Vec<u8>) -> Vec<u8> {
        if self.samples == 1 {
            return frame;
        }
        let (size, pixels) = (self.sample_bytes(), self.pixels());
        let mut out = Vec::with_capacity(frame.len());
        for pixel in 0..pixels {
            for plane in 0..usize::from(self.samples) {
                let at = (plane * pixels + pixel) * size;
                out.extend_from_slice(&frame[at..at + size]);
            }
        }
        out
    }
}

pub const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
pub const PLANAR: Tag = Tag(0x0028, 0x0006);
const SAMPLES: Tag = Tag(0x0028, 0x0002);
const FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const ALLOCATED: Tag = Tag(0x0028, 0x0100);
const STORED: Tag = Tag(0x0028, 0x0101);
const REPRESENTATION: Tag = Tag(0x0028, 0x0103);
/// Larger frames are not taken apart.
const FRAME_MAX: u64 = 1 << 30;
