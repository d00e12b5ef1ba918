//! Sequences that came as UN of declared length: what the dictionary calls a sequence, and whose bytes read as implicit little
//! endian items (CP-246, PS3.5 6.2.2 note), is one. Bytes that do not read so stay an opaque value. No byte is changed.
use super::scan::Core;
use super::{Kind, Node, dictionary_vr};
use crate::base::limits::NODES_MAX;
use dicom_core::VR;

/// The nodes with those of hidden sequences put in. Linear in the bytes: each is read once more at most.
pub(super) fn unhide(bytes: &[u8], nodes: Vec<Node>) -> Vec<Node> {
    if !nodes.iter().any(may_hide) {
        return nodes;
    }
    let mut all = Vec::with_capacity(nodes.len());
    // Where each node went, to mend `next`.
    let mut places = Vec::with_capacity(nodes.len() + 1);
    let mut left = nodes.len();
    for node in nodes {
        places.push(all.len() as u32);
        left -= 1;
        let room = NODES_MAX - all.len() - left;
        let found = may_hide(&node).then(|| items(bytes, node, all.len(), room)).flatten();
        match found {
            Some(mut inside) => all.append(&mut inside),
            None => all.push(node),
        }
    }
    places.push(all.len() as u32);
    let originals: Vec<u32> = places[..places.len() - 1].to_vec();
    for (was, at) in originals.into_iter().enumerate() {
        let node: &mut Node = &mut all[at as usize];
        // A hidden sequence has its `next` already; it was a value, so the next node of old follows it directly.
        node.next = match node.kind {
            Kind::Value => places[was + 1],
            Kind::Sequence | Kind::Fragments | Kind::Item if is_hidden(node) => places[was + 1],
            Kind::Sequence | Kind::Fragments | Kind::Item => places[node.next as usize],
        };
    }
    all
}

fn may_hide(node: &Node) -> bool {
    node.vr == VR::UN
        && node.kind == Kind::Value
        && !node.undefined
        && node.value < node.end
        && dictionary_vr(node.tag) == VR::SQ
}

/// Whether it was made here: all other sequences of VR UN have undefined length.
fn is_hidden(node: &Node) -> bool {
    node.kind == Kind::Sequence && node.vr == VR::UN && !node.undefined
}

/// The sequence that will stand at `at`, and all it contains; `None` when the bytes are no items, or more than `room` nodes.
fn items(bytes: &[u8], node: Node, at: usize, room: usize) -> Option<Vec<Node>> {
    let value = &bytes[node.value_range()];
    let mut nodes = Core::items(value, &node)?;
    if nodes.len() > room {
        return None;
    }
    for inner in &mut nodes[1..] {
        inner.start += node.value;
        inner.value += node.value;
        inner.end += node.value;
        inner.next += at as u32;
    }
    nodes[0] = Node {
        kind: Kind::Sequence,
        next: (at + nodes.len()) as u32,
        ..node
    };
    Some(nodes)
}
