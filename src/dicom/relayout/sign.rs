//! US or SS: what Pixel Representation decides on, also of elements that stand before it.
//!
//! An element without a VR that may be signed is written as US, and what is written from there on is held until its item's own Pixel
//! Representation has come, or cannot come any more (elements ascend, PS3.5 7.1); then that of the enclosing item or data set holds.
use super::{Frame, PIXEL_REPRESENTATION, Relayout, RelayoutError};
use crate::base::limits::HEAD_MAX;
use crate::dicom::head::Kind;
use dicom_core::Tag;

/// Pixel Representation of one item, or of the data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// It may come yet.
    Open,
    /// Its own: whether pixels are signed.
    Own(bool),
    /// It has none.
    Passed,
}

/// An element that was written as US and may be SS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    tag: Tag,
    /// The frame that decides on it: 0 is the data set, others stand one lower on the stack.
    level: usize,
    /// Where the letters of its VR stand.
    at: usize,
}

impl Relayout {
    /// Whether a number in the innermost frame is signed. Without an answer yet: the level that decides on it.
    fn is_signed(&self) -> Result<bool, usize> {
        let frames = self.stack.iter().enumerate().rev();
        let frames = frames.map(|(at, frame)| (at + 1, frame)).chain([(0, &self.root)]);
        for (level, frame) in frames.filter(|(_, frame)| frame.kind == Kind::Item) {
            match frame.sign {
                Sign::Open => return Err(level),
                Sign::Own(signed) => return Ok(signed),
                Sign::Passed => {}
            }
        }
        Ok(false)
    }

    /// Whether `tag`, whose VR's letters come next, is written as SS.
    pub(super) fn weigh(&mut self, tag: Tag, out: &[u8]) -> bool {
        self.is_signed().unwrap_or_else(|level| {
            let at = out.len();
            self.doubts.push(Doubt { tag, level, at });
            false
        })
    }

    /// The innermost frame has reached `tag`: Pixel Representation does not come behind it any more.
    pub(super) fn reached(&mut self, tag: Tag, out: &mut [u8]) {
        if tag > PIXEL_REPRESENTATION && self.top().sign == Sign::Open {
            self.decide(Sign::Passed, out);
        }
    }

    /// What the innermost frame has become.
    pub(super) fn decide(&mut self, sign: Sign, out: &mut [u8]) {
        self.top_mut().sign = sign;
        let frame = self.top();
        self.settle(self.stack.len(), &frame, out);
    }

    /// Closes the innermost frame, which leaves its doubts to those around it.
    pub(super) fn leave(&mut self, out: &mut [u8]) {
        let level = self.stack.len();
        if let Some(frame) = self.stack.pop() {
            self.settle(level, &frame, out);
        }
    }

    /// What stands in the frame is last in line: a doubt is looked at once for each level that it is in.
    fn settle(&mut self, level: usize, frame: &Frame, out: &mut [u8]) {
        if self.doubts.len() <= frame.doubts {
            return;
        }
        let signed = self.is_signed();
        let mut own = self.doubts.split_off(frame.doubts);
        own.retain_mut(|doubt| {
            if doubt.level != level {
                return true;
            }
            match signed {
                Ok(true) => out[doubt.at..doubt.at + 2].copy_from_slice(b"SS"),
                Ok(false) => {}
                Err(further) => doubt.level = further,
            }
            signed.is_err()
        });
        self.doubts.append(&mut own);
    }

    /// Hands out what is not in doubt: what was made before, and now.
    ///
    /// # Errors
    /// `SignFar`.
    pub(super) fn hand_out(&mut self, mut made: Vec<u8>, out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        if let Some(first) = self.doubts.first().copied() {
            self.held = match first.at {
                0 => std::mem::take(&mut made),
                at => made.split_off(at),
            };
            if first.at > 0 {
                self.doubts.iter_mut().for_each(|doubt| doubt.at -= first.at);
            }
            if self.held.len() > HEAD_MAX {
                return Err(RelayoutError::SignFar(first.tag));
            }
        }
        match out.is_empty() {
            true => *out = made,
            false => out.append(&mut made),
        }
        Ok(())
    }
}
