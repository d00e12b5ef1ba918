//! The scanner: takes a data set in pieces, keeps the head's bytes, and indexes them with one stack and no recursion.
//!
//! `Core` sees the bytes as the layout has them (inflated); `Scanner` puts the inflater before it and the tail behind it.
use super::header::{self, Header, Parsed, is_delimiter};
use super::hidden;
use super::inflate::Inflate;
use super::roots::Roots;
use super::tail::Tail;
use super::{Behind, Head, HeadEnd, HeadError, ITEM, ITEM_END, Kind, Node, PIXEL_GROUP, SEQUENCE_END};
use crate::base::limits::{DEPTH_MAX, HEAD_MAX, NODES_MAX};
use crate::dicom::syntax::{Layout, Syntax};
use bytes::Bytes;
use dicom_core::Tag;

/// What a scanner knows after a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The head is not complete yet.
    More,
    /// The head is complete; later pieces only have their structure checked (or are passed over).
    HeadComplete,
}

/// Takes a data set in pieces of any size, as it arrives.
pub struct Scanner {
    syntax: Syntax,
    inflate: Option<Inflate>,
    core: Core,
    tail: Tail,
    head: Option<Head>,
}

impl Scanner {
    #[must_use]
    pub fn new(syntax: Syntax) -> Self {
        Self {
            inflate: syntax.deflated.then(Inflate::new),
            core: Core::new(syntax.layout),
            tail: Tail::new(syntax.layout),
            head: None,
            syntax,
        }
    }

    /// # Errors
    /// See `HeadError`; after an error the scanner must not be used again.
    pub fn push(&mut self, piece: &[u8]) -> Result<Progress, HeadError> {
        if self.syntax.deflated {
            self.push_deflated(piece)?;
        } else {
            self.push_plain(piece)?;
        }
        Ok(match self.head {
            Some(_) => Progress::HeadComplete,
            None => Progress::More,
        })
    }

    /// The head as soon as `push` has answered `HeadComplete`, while the rest still streams.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The data set has ended.
    ///
    /// # Errors
    /// `Truncated` when it ended inside an element. What follows a deflated head is not inflated, so not judged.
    pub fn finish(mut self) -> Result<Head, HeadError> {
        if let Some(inflate) = self.inflate.take_if(|_| self.head.is_none()) {
            let core = &mut self.core;
            inflate.finish(&mut |bytes| core.feed(bytes))?;
        }
        if self.head.is_none() {
            self.core.finish()?;
            self.complete(HeadEnd::DataSet, None);
        } else if !self.syntax.deflated {
            self.tail.finish()?;
            if let Some(head) = self.head.as_mut().filter(|head| head.behind == Behind::Unseen) {
                head.behind = self.tail.behind();
            }
        }
        match self.head {
            Some(head) => Ok(head),
            None => Err(HeadError::BadDeflate),
        }
    }

    fn push_plain(&mut self, mut piece: &[u8]) -> Result<(), HeadError> {
        while self.head.is_none() && !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(self.core.appetite()));
            piece = later;
            if let Some(cut) = self.core.feed(now)? {
                self.tail.start_at(cut.at);
                self.tail.push(&self.core.bytes[cut.at..]);
                self.cut(cut);
            }
        }
        self.tail.push(piece);
        Ok(())
    }

    fn push_deflated(&mut self, piece: &[u8]) -> Result<(), HeadError> {
        if self.head.is_some() {
            return Ok(());
        }
        let Some(inflate) = self.inflate.as_mut() else {
            return Ok(());
        };
        let core = &mut self.core;
        let cut = inflate.push(piece, &mut |bytes| core.feed(bytes))?;
        if let Some(cut) = cut {
            self.cut(cut);
        } else if inflate.is_done() {
            self.core.finish()?;
            self.complete(HeadEnd::DataSet, None);
        }
        Ok(())
    }

    fn cut(&mut self, cut: Cut) {
        self.core.bytes.truncate(cut.at);
        self.core.nodes.truncate(cut.nodes);
        self.complete(cut.end, Some(cut.follows));
    }

    fn complete(&mut self, end: HeadEnd, follows: Option<Tag>) {
        let mut bytes = std::mem::take(&mut self.core.bytes);
        bytes.shrink_to_fit();
        let nodes = hidden::unhide(&bytes, std::mem::take(&mut self.core.nodes));
        self.core.stack = Vec::new();
        self.head = Some(Head {
            syntax: self.syntax.clone(),
            bytes: Bytes::from(bytes),
            roots: Roots::of(&nodes),
            nodes,
            end,
            follows,
            behind: match end {
                HeadEnd::DataSet => Behind::Nothing,
                HeadEnd::Pixels | HeadEnd::Cap => Behind::Unseen,
            },
        });
    }
}

/// Where the head ends, before the data set does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    at: usize,
    nodes: usize,
    end: HeadEnd,
    follows: Tag,
}

/// A sequence, item or fragments that is open.
#[derive(Clone, Copy)]
struct Frame {
    node: usize,
    kind: Kind,
    /// Where it ends, when its length is declared.
    end: Option<usize>,
    /// What nothing inside may pass: the nearest declared end.
    limit: usize,
    inside: Layout,
    depth: u8,
}

pub(super) struct Core {
    layout: Layout,
    bytes: Vec<u8>,
    nodes: Vec<Node>,
    stack: Vec<Frame>,
    /// Everything before is indexed. Beyond `bytes` while a value is being received.
    at: usize,
}

enum Step {
    More,
    Next,
    Cut(Cut),
}

impl Core {
    fn new(layout: Layout) -> Self {
        Self {
            layout,
            bytes: Vec::new(),
            nodes: Vec::new(),
            stack: Vec::new(),
            at: 0,
        }
    }

    /// The nodes of a sequence of declared length and implicit layout, itself first, with places and indices that count from its
    /// value; `None` when `value` is not such a sequence.
    pub(super) fn items(value: &[u8], sequence: &Node) -> Option<Vec<Node>> {
        let mut core = Self::new(Layout::ImplicitLittle);
        core.bytes = value.to_vec();
        core.nodes.push(*sequence);
        core.stack.push(Frame {
            node: 0,
            kind: Kind::Sequence,
            end: Some(value.len()),
            limit: value.len(),
            inside: Layout::ImplicitLittle,
            depth: sequence.depth,
        });
        loop {
            core.close();
            if core.stack.is_empty() {
                return (core.at == value.len()).then_some(core.nodes);
            }
            match core.step() {
                Ok(Step::Next) => {}
                Ok(Step::More | Step::Cut(_)) | Err(_) => return None,
            }
        }
    }

    /// How many bytes to take next: most heads are a few KiB, and what is taken beyond them is copied in vain.
    fn appetite(&self) -> usize {
        self.bytes.len().clamp(FEED_FIRST, FEED)
    }

    /// Takes at most `FEED` bytes. The kept bytes never pass `HEAD_MAX + FEED`: every element that would end beyond
    /// `HEAD_MAX` cuts the head as soon as its header is there.
    fn feed(&mut self, piece: &[u8]) -> Result<Option<Cut>, HeadError> {
        debug_assert!(piece.len() <= FEED);
        let len = self.bytes.len() + piece.len();
        if len > self.bytes.capacity() {
            let capacity = (2 * self.bytes.capacity()).min(HEAD_MAX + FEED).max(len);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        loop {
            match self.step()? {
                Step::More => return Ok(None),
                Step::Next => {}
                Step::Cut(cut) => return Ok(Some(cut)),
            }
        }
    }

    fn step(&mut self) -> Result<Step, HeadError> {
        self.close();
        if self.at > self.bytes.len() {
            return Ok(Step::More);
        }
        let top = self.stack.last().copied();
        let (layout, limit) = top.map_or((self.layout, usize::MAX), |frame| (frame.inside, frame.limit));
        let at = self.at as u64;
        // Before the bytes are looked at: those behind the limit are no header of this element, however many are here already.
        if limit - self.at < header::SIZE_MIN {
            return Err(self.overrun(at));
        }
        let found = match header::parse(layout, &self.bytes[self.at..]) {
            Parsed::Header(found) => found,
            Parsed::BadVr(tag) => return Err(HeadError::BadVr { tag, at }),
            Parsed::Unexpected(tag) => return Err(HeadError::Unexpected { tag, at }),
            Parsed::Short => return Ok(Step::More),
        };
        let end = self.at + found.size + found.length.unwrap_or(0) as usize;
        if end > limit {
            return Err(HeadError::Overrun { tag: found.tag, at });
        }
        if top.is_none() && is_delimiter(found.tag) {
            return Err(HeadError::Unexpected { tag: found.tag, at });
        }
        if end > HEAD_MAX || (top.is_none() && found.tag.0 >= PIXEL_GROUP) {
            return Ok(Step::Cut(self.cut(found.tag)));
        }
        let kind = top.map_or(Kind::Item, |frame| frame.kind);
        if self.closes(kind, &found, top.as_ref())? {
            return Ok(Step::Next);
        }
        self.open(&found, layout, end)?;
        Ok(Step::Next)
    }

    /// Whether this is the delimiter that ends the innermost frame; anything out of place is refused.
    fn closes(&mut self, kind: Kind, found: &Header, top: Option<&Frame>) -> Result<bool, HeadError> {
        let undefined = top.is_some_and(|frame| frame.end.is_none());
        let closing = match (kind, found.tag) {
            (Kind::Sequence, ITEM) => false,
            // A fragment has a length.
            (Kind::Fragments, ITEM) if found.length.is_some() => false,
            (Kind::Sequence | Kind::Fragments, SEQUENCE_END) if undefined => true,
            (Kind::Item, ITEM_END) if undefined => true,
            (Kind::Item, tag) if !is_delimiter(tag) => false,
            (_, tag) => {
                let at = self.at as u64;
                return Err(HeadError::Unexpected { tag, at });
            }
        };
        if closing {
            // A delimiter's length ought to be zero; what some devices write there is no value.
            self.at += found.size;
            self.pop();
        }
        Ok(closing)
    }

    fn open(&mut self, found: &Header, layout: Layout, end: usize) -> Result<(), HeadError> {
        if self.nodes.len() >= NODES_MAX {
            return Err(HeadError::TooMany(NODES_MAX));
        }
        let top = self.stack.last().copied();
        let enclosing = top.map_or(0, |frame| frame.depth);
        let is_fragment = top.is_some_and(|frame| frame.kind == Kind::Fragments);
        let depth = enclosing + u8::from(found.kind == Kind::Item);
        if usize::from(depth) > DEPTH_MAX {
            return Err(HeadError::TooDeep(DEPTH_MAX));
        }
        let node = self.nodes.len();
        // All places fit: they are at most HEAD_MAX, which is far below u32::MAX (asserted in limits.rs).
        self.nodes.push(Node {
            tag: found.tag,
            start: self.at as u32,
            value: (self.at + found.size) as u32,
            end: end as u32,
            next: node as u32 + 1,
            vr: found.vr,
            depth,
            kind: found.kind,
            undefined: found.length.is_none(),
            layout,
        });
        if found.kind == Kind::Value || is_fragment {
            self.at = end;
            return Ok(());
        }
        self.at += found.size;
        self.stack.push(Frame {
            node,
            kind: found.kind,
            end: found.length.map(|_| end),
            limit: match (found.length, top) {
                (Some(_), _) => end,
                (None, Some(frame)) => frame.limit,
                (None, None) => usize::MAX,
            },
            inside: found.inside,
            depth,
        });
        Ok(())
    }

    /// Closes every frame whose declared end is reached.
    fn close(&mut self) {
        while self.stack.last().is_some_and(|frame| frame.end == Some(self.at)) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(frame) = self.stack.pop() {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[frame.node];
            node.end = self.at as u32;
            node.next = next;
        }
    }

    /// The head ends before the top-level element that is open, or before the one whose header was just read.
    fn cut(&self, next: Tag) -> Cut {
        match self.stack.first() {
            Some(frame) => {
                let node = &self.nodes[frame.node];
                Cut {
                    at: node.start as usize,
                    nodes: frame.node,
                    end: HeadEnd::Cap,
                    follows: node.tag,
                }
            }
            None => Cut {
                at: self.at,
                nodes: self.nodes.len(),
                end: if header::is_pixels(next) {
                    HeadEnd::Pixels
                } else {
                    HeadEnd::Cap
                },
                follows: next,
            },
        }
    }

    fn overrun(&self, at: u64) -> HeadError {
        let tag = self.nodes.last().map_or(ITEM, |node| node.tag);
        HeadError::Overrun { tag, at }
    }

    /// The data set ended here. Fewer than eight zero bytes after the last element are padding of some devices and stay in the head.
    fn finish(&mut self) -> Result<(), HeadError> {
        self.close();
        let rest = self.bytes.get(self.at..);
        let is_padding = rest.is_some_and(|rest| rest.len() < header::SIZE_MIN && rest.iter().all(|byte| *byte == 0));
        if self.stack.is_empty() && is_padding {
            return Ok(());
        }
        let tag = self.nodes.last().map_or(Tag(0, 0), |node| node.tag);
        let at = self.bytes.len() as u64;
        Err(HeadError::Truncated { tag, at })
    }
}

const FEED_FIRST: usize = 4 << 10;
/// The most bytes that are taken up at once.
pub(super) const FEED: usize = 64 << 10;
